"""The embedded judge's model: a small vision-language dual encoder in Hugging Face format.

Importing this package registers it with transformers' Auto classes, so that
`AutoModel.from_pretrained(folder)` and `AutoProcessor.from_pretrained(folder)` load it like any other model.
"""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor

from sealegs_learning.judge.embedded.configuration import SealegsJudgeConfig
from sealegs_learning.judge.embedded.modeling import SealegsJudgeModel, SealegsJudgeOutput
from sealegs_learning.judge.embedded.processing import SealegsJudgeImageProcessor, SealegsJudgeProcessor

AutoConfig.register(SealegsJudgeConfig.model_type, SealegsJudgeConfig, exist_ok=True)
AutoModel.register(SealegsJudgeConfig, SealegsJudgeModel, exist_ok=True)
AutoImageProcessor.register(SealegsJudgeConfig, slow_image_processor_class=SealegsJudgeImageProcessor, exist_ok=True)
AutoProcessor.register(SealegsJudgeConfig, SealegsJudgeProcessor, exist_ok=True)

__all__ = [
    "SealegsJudgeConfig",
    "SealegsJudgeImageProcessor",
    "SealegsJudgeModel",
    "SealegsJudgeOutput",
    "SealegsJudgeProcessor",
]
