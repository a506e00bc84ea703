"""Questions that a process asks vLLM once."""

from types import SimpleNamespace

import pytest
from torch import nn
from vllm.model_executor.model_loader import utils

from workbench.engine import once


@pytest.mark.parametrize(("quantization", "recorded"), [(None, 0), ("fp8", 1)])
def test_metadata_is_recorded_only_for_quantized_models(quantization, recorded, monkeypatch):
    records = []
    config = SimpleNamespace(model_config=SimpleNamespace(quantization=quantization))
    monkeypatch.setattr(utils, "record_metadata_for_reloading", records.append)
    monkeypatch.setattr(once, "get_current_vllm_config", lambda: config)
    once._skip_records_for_reloading()
    utils.record_metadata_for_reloading(nn.Module())
    assert len(records) == recorded
