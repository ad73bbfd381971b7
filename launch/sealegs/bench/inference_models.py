"""The policies of `sealegs bench inference`: an MLP, an ensemble of MLPs and a CNN, exported as any policy is."""

from __future__ import annotations

from pathlib import Path

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn

from sealegs_contract.errors import LearningError, available
from sealegs_contract.robot import load_robot
from sealegs_contract.spec import ImageField, delta_action_spec, observation_spec
from sealegs_deploy.bundle import VerifiedBundle, load_bundle
from sealegs_deploy.export import ExportRequest, export_bundle
from sealegs_deploy.signing import SigningKey
from sealegs_learning.networks import StackedPerceptron, perceptron

HIDDEN = (256, 256)
MEMBERS = 5
PIXELS = 84
CHANNELS = ((3, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1))
"""In, out, kernel, stride of the convolutions of Mnih et al., Human-level control through deep RL (Nature, 2015)."""


class Perceptron(nn.Module):
    """tanh(MLP(observation))."""

    def __init__(self, observed: int, moved: int, generator: torch.Generator) -> None:
        super().__init__()
        self.body = perceptron((observed, *HIDDEN, moved), generator)

    def forward(self, observation: Tensor) -> Tensor:
        """(B, D) -> (B, J)."""
        return torch.tanh(self.body(observation))


class Ensemble(nn.Module):
    """Mean over members of tanh(MLP_k(observation))."""

    def __init__(self, observed: int, moved: int, generator: torch.Generator) -> None:
        super().__init__()
        self.body = StackedPerceptron(MEMBERS, (observed, *HIDDEN, moved), generator)

    def forward(self, observation: Tensor) -> Tensor:
        """(B, D) -> (B, J)."""
        return torch.tanh(self.body(observation)).mean(0)


class Convolutions(nn.Module):
    """tanh(MLP(convolutions(image / 255), observation))."""

    def __init__(self, observed: int, moved: int, generator: torch.Generator) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        size = PIXELS
        for came, gone, kernel, stride in CHANNELS:
            layer = nn.Conv2d(came, gone, kernel, stride, bias=False)
            nn.init.normal_(layer.weight, std=(2.0 / (came * kernel * kernel)) ** 0.5, generator=generator)
            layers += [layer, nn.ReLU()]
            size = (size - kernel) // stride + 1
        self.eye = nn.Sequential(*layers, nn.Flatten())
        self.body = perceptron((CHANNELS[-1][1] * size * size + observed, 256, moved), generator)

    def forward(self, observation: Tensor, image: Tensor) -> Tensor:
        """(B, D), (B, 84, 84, 3) uint8 -> (B, J)."""
        seen = self.eye(image.permute(0, 3, 1, 2).to(torch.float32) / 255.0)
        return torch.tanh(self.body(torch.cat([seen, observation], dim=1)))


def make_policy(model: str, seed: int, folder: Path) -> tuple[nn.Module, VerifiedBundle]:
    """The policy `model` with seeded weights as a torch module, and as a bundle written to and loaded from `folder`."""
    kinds = {"mlp": Perceptron, "ensemble": Ensemble, "cnn": Convolutions}
    if model not in kinds:
        raise LearningError(f"no model {model!r}; {available(kinds)}")
    robot = load_robot("so101")
    observation, action = observation_spec(robot, ("gripper", "handle")), delta_action_spec(robot)
    if model == "cnn":
        image = ImageField(camera=robot.cameras[0].name, height=PIXELS, width=PIXELS)
        observation = observation.model_copy(update={"images": (image,)})
    module = kinds[model](observation.size, action.size, torch.Generator().manual_seed(seed)).eval()
    key = SigningKey(Ed25519PrivateKey.generate(), folder / "never-written.pem")
    request = ExportRequest(name=f"bench-{model}", robot=robot, observation=observation, action=action, seed=seed)
    export_bundle(module, request, folder / "bundle", key, overwrite=True)
    return module, load_bundle(folder / "bundle", trusted_public_keys=(key.public_key,))
