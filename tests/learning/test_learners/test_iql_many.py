import pytest
import torch

from sealegs_contract.errors import LearningError, MachineError
from sealegs_learning.learners.graphed import GraphedUpdates, _restore, check_device
from sealegs_learning.learners.iql import IQL
from sealegs_learning.learners.iql_many import ManyIQL
from sealegs_learning.learners.settings import IQLSettings
from sealegs_learning.networks import GaussianActor, Normalizer
from sealegs_learning.training.config import TrainConfig
from sealegs_learning.transitions import Transitions

UPDATES = 40
SETTINGS = [
    IQLSettings(tau=0.6, beta=1.0),
    IQLSettings(tau=0.9, beta=3.0, polyak=0.02),
    IQLSettings(gamma=0.5, advantage_cap=2.0),
]
RATES = [1e-3, 4e-4, 2e-3]


def transitions() -> Transitions:
    g = torch.Generator().manual_seed(0)
    s, s_next = torch.randn(500, 5, generator=g), torch.randn(500, 5, generator=g)
    a, r = torch.rand(500, 2, generator=g) * 2 - 1, torch.randn(500, generator=g)
    terminal = (torch.rand(500, generator=g) < 0.1).float()
    return Transitions.pack(s, a, r, s_next, terminal, Normalizer.fit(s))


def learner(
    seed: int, settings: IQLSettings, device: str = "cpu", hidden: tuple[int, ...] = (40, 40), rate: float = 1e-3
) -> IQL:
    generator = torch.Generator().manual_seed(seed)
    policy = GaussianActor(5, 2, hidden, Normalizer(torch.zeros(5), torch.ones(5)), generator)
    return IQL(policy.to(device), settings, rate, UPDATES, generator)


def test_members_become_the_policies_of_single_runs():
    data = transitions()
    single, members = ([learner(seed, SETTINGS[seed], rate=RATES[seed]) for seed in range(3)] for _ in range(2))
    many = ManyIQL(members)
    generators = [torch.Generator().manual_seed(seed + 1) for seed in range(3)]
    for update in range(UPDATES):
        if update == UPDATES // 2:  # all state goes over, moments too
            many.settle()
            many = ManyIQL(members)
        index = torch.stack([data.draw(generator, 64)[0] for generator in generators])
        together = many.update(data.rows(index))
        apart = [one.update(data.rows(index[k])) for k, one in enumerate(single)]
    for name, values in together.items():
        torch.testing.assert_close(values, torch.stack([one[name] for one in apart]), atol=1e-4, rtol=1e-3)
    x = data.packed[:50, :5]
    moved = learner(0, SETTINGS[0]).policy(x)
    for policy, one in zip(many.settle(), single, strict=True):
        torch.testing.assert_close(policy(x), one.policy(x), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(policy.log_std, one.policy.log_std, atol=1e-5, rtol=1e-3)
        assert (policy(x) - moved).abs().max() > 1e-2  # training moved it further than the tolerance
    for member, one in zip(members, single, strict=True):
        for name, value in one.tensors().items():
            torch.testing.assert_close(member.tensors()[name], value, atol=1e-4, rtol=1e-2, msg=name)


def test_members_that_do_not_fit_are_refused():
    with pytest.raises(LearningError, match="precision"):
        ManyIQL([learner(0, IQLSettings()), learner(0, IQLSettings(precision="bfloat16"))])
    with pytest.raises(LearningError, match="network sizes"):
        ManyIQL([learner(0, IQLSettings()), learner(0, IQLSettings(), hidden=(8,))])


def test_a_block_of_indices_is_the_indices_of_single_draws():
    data = transitions()
    block, one = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    drawn = data.draw(block, 64, updates=7)
    assert torch.equal(drawn, torch.cat([data.draw(one, 64) for _ in range(7)]))
    assert torch.equal(block.get_state(), one.get_state())


def test_terminals_travel_with_the_batch():
    data = transitions()
    batch = data.rows(torch.arange(500).view(2, 250))
    assert batch.terminal.shape == (2, 250)
    assert batch.terminal.flatten().tolist() == data.packed[:, -1].tolist()
    assert 20 < batch.terminal.sum() < 90


def test_devices_are_checked():
    assert check_device("cpu").type == "cpu"
    with pytest.raises(MachineError, match="expected cpu or cuda"):
        check_device("quantum")
    if not torch.cuda.is_available():
        with pytest.raises(MachineError, match="sees no CUDA GPU"):
            check_device("cuda")
    with pytest.raises(MachineError, match="on the GPU"):
        GraphedUpdates(learner(0, IQLSettings()), transitions(), 64)


@pytest.mark.parametrize("done", [0, 5])
def test_what_warms_a_graph_up_is_undone(done):
    # A graph is captured after a few steps, whose effect must not stay; the tensors must stay the same objects.
    data, plain, warmed = transitions(), learner(0, IQLSettings()), learner(0, IQLSettings())
    batches = [data.sample(torch.Generator().manual_seed(k), 64) for k in range(done + 4)]
    for batch in batches[:done]:
        plain.update(batch)
        warmed.update(batch)
    before = {name: tensor.clone() for name, tensor in warmed.tensors().items()}
    places = [p.data_ptr() for p in warmed.networks.parameters()]
    for _ in range(3):
        warmed.step(batches[0])
    _restore(warmed, before)
    assert [p.data_ptr() for p in warmed.networks.parameters()] == places
    for batch in batches[done:]:
        plain.update(batch)
        warmed.update(batch)
    for name, value in plain.tensors().items():
        assert torch.equal(value, warmed.tensors()[name]), name


def test_a_learning_run_refuses_a_gpu_that_is_not_there(point_world, goal_reward, tmp_path):
    from sealegs_learning.sessions.offline import make_learner
    from sealegs_learning.transitions import build_transitions

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    data = build_transitions(point_world, goal_reward(point_world.state))
    with pytest.raises(MachineError, match="CUDA"):
        make_learner(TrainConfig(tmp_path, device="cuda"), point_world, data, "")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_cuda_graph_gives_what_plain_updates_give():
    data = transitions()
    plain, graphed = learner(0, IQLSettings()), learner(0, IQLSettings(), "cuda")
    runner = GraphedUpdates(graphed, data.to("cuda"), 64)
    ours, theirs = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    for block in (1, UPDATES - 1):
        metrics = runner.advance([ours], block)
    for _ in range(UPDATES):
        expected = plain.update(data.sample(theirs, 64))
    assert graphed.done == plain.done
    assert torch.equal(ours.get_state(), theirs.get_state())
    for name, value in metrics.items():
        torch.testing.assert_close(value.cpu(), expected[name], atol=1e-3, rtol=1e-2)
    x = data.packed[:50, :5]
    torch.testing.assert_close(
        graphed.policy.mean_action(x.cuda()).cpu(), plain.policy.mean_action(x), atol=1e-3, rtol=1e-2
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_cuda_graph_runs_many_members():
    data = transitions()
    members = [learner(seed, c, "cuda") for seed, c in enumerate(SETTINGS)]
    many = ManyIQL(members)
    runner = GraphedUpdates(many, data.to("cuda"), 64, members=3)
    runner.advance([torch.Generator().manual_seed(seed + 1) for seed in range(3)], UPDATES)
    for seed, policy in enumerate(many.settle()):
        one, generator = learner(seed, SETTINGS[seed]), torch.Generator().manual_seed(seed + 1)
        for _ in range(UPDATES):
            one.update(data.sample(generator, 64))
        x = data.packed[:50, :5]
        torch.testing.assert_close(policy.mean_action(x.cuda()).cpu(), one.policy.mean_action(x), atol=1e-3, rtol=1e-2)
