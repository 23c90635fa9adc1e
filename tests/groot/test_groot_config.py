"""The configuration refuses nonsense, round-trips, and writes plain N1.6 files when SVMS is off."""

import json
import subprocess
import sys
from dataclasses import fields

import pytest
from groot_tiny import tiny_config

from svms_gr00t.core.errors import CheckpointError, ConfigError
from svms_gr00t.core.svms_config import SvmsConfig
from svms_gr00t.groot.config import Gr00tN1d6Config

# The keys of a released file that steer NVIDIA's trainer and processor; values shortened.
RELEASED = {
    "architectures": ["Gr00tN1d6"],
    "model_type": "Gr00tN1d6",
    "model_name": "nvidia/Eagle-Block2A-2B-v2",
    "model_dtype": "bfloat16",
    "tune_top_llm_layers": 4,
    "load_bf16": True,
    "color_jitter_params": {"brightness": 0.3},
    "attn_dropout": 0.2,
    "transformers_version": "4.51.3",
    "torch_dtype": "bfloat16",
    "max_state_dim": 128,
    "action_horizon": 50,
    "diffusion_model_cfg": {"num_layers": 32, "num_attention_heads": 32, "attention_head_dim": 48, "dropout": 0.2},
}


def test_the_promised_snippet_works():
    config = Gr00tN1d6Config(use_sheaf_streams=True, d_stream=768, lambda_sheaf_max=0.1, lambda_aux=0.3)
    assert (config.d_stream, config.max_action_dim, config.action_horizon, config.select_layer) == (768, 128, 50, 16)


def test_torch_is_not_imported():
    code = "import sys, svms_gr00t.groot.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "config",
    [
        Gr00tN1d6Config(),
        tiny_config(),
        tiny_config(mask_padding=False, use_alternate_vl_dit=False),
        tiny_config(use_sheaf_streams=True, stream_edges=(("visual", "state"), ("temporal", "state"))),
    ],
    ids=["default", "tiny", "plain", "edges"],
)
def test_json_round_trip(config):
    assert Gr00tN1d6Config.from_dict(json.loads(config.dumps())) == config


def test_a_released_file_comes_back_key_for_key_and_without_svms():
    config = Gr00tN1d6Config.from_dict(RELEASED)
    written = json.loads(config.dumps())
    assert not config.use_sheaf_streams
    for name, value in RELEASED.items():
        assert written[name] == value or set(value.items()) <= set(written[name].items())
    assert not written.keys() & {f.name for f in fields(SvmsConfig)}
    assert not written.keys() & {"vision_config", "text_config", "mask_padding"}


def test_svms_comes_on_with_the_first_of_its_keys():
    assert Gr00tN1d6Config.from_dict(RELEASED | {"d_stream": 64}).use_sheaf_streams
    assert not Gr00tN1d6Config.from_dict(RELEASED | {"d_stream": 64, "use_sheaf_streams": False}).use_sheaf_streams


@pytest.mark.parametrize(
    ("extra", "hint"),
    [
        ({"lamda_aux": 0.3}, "lambda_aux"),
        ({"action_horizont": 8}, "action_horizon"),
        ({"vision_config": {"hidden_sise": 64}}, "hidden_size"),
        ({"zzz": 1}, "known are"),
    ],
)
def test_an_unknown_key_names_its_neighbours(extra, hint):
    with pytest.raises(ConfigError, match=hint):
        Gr00tN1d6Config.from_dict(RELEASED | extra)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("select_layer", 29),
        ("input_embedding_dim", 1024),
        ("backbone_embedding_dim", 64),
        ("image_token_index", 10**6),
        ("num_inference_timesteps", 0),
        ("noise_s", 1.5),
        ("state_dropout_prob", -0.1),
        ("max_seq_len", 49),
        ("max_num_embodiments", 0),
        ("text_config", {"num_key_value_heads": 3}),
        ("vision_config", {"use_windows_attn": True}),
        ("diffusion_model_cfg", {"interleave_self_attention": False}),
        ("diffusion_model_cfg", {"positional_embeddings": "sinusoidal"}),
        ("diffusion_model_cfg", {"activation_fn": "geglu"}),
        ("text_config", {"rope_scaling": {"type": "linear", "factor": 2.0}}),
    ],
)
def test_values_that_cannot_be_are_refused(field, value):
    with pytest.raises(ConfigError):
        Gr00tN1d6Config.from_dict({field: value})


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"model_type": "gr00t_n1_5", "action_head_cfg": {}, "backbone_cfg": {}}, r"N1\.5"),
        ({"model_type": "Gr00tN1d7", "model_name": "nvidia/Cosmos-Reason2-2B"}, r"N1\.7"),
        ({"model_type": "llama"}, "llama"),
    ],
)
def test_other_models_are_recognised(values, name):
    with pytest.raises(CheckpointError, match=rf"{name}.*N1\.6"):
        Gr00tN1d6Config.from_dict(values)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_broken_file_is_named(tmp_path, text):
    file = tmp_path / "config.json"
    with pytest.raises(CheckpointError, match="no such file"):
        Gr00tN1d6Config.load(file)
    file.write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Gr00tN1d6Config.load(file)
