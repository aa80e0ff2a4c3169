"""What a stage's `adapter` may say, and what PEFT is told of it."""

import json

import pytest

from journey.errors import JourneyError
from journey.fields import fit
from journey.stages.dpo import DPO
from journey.stages.lora import LoRA
from journey.stages.sft import SFT
from journey.train.lora import Adapter, parse


@pytest.mark.parametrize("text", ["{}", " { } ", "{rank: 16}", '{"rank": 16, "quantize": ""}', "rank: 16", "{alpha: }"])
def test_the_usual_adapter(text):
    assert parse(text) == Adapter()


def test_every_setting_is_read():
    said = "{rank: 4, alpha: 3e1, dropout: .5, targets: mlp, dora: yes, rslora: true, quantize: nf4}"
    asked = Adapter(rank=4, alpha=30.0, dropout=0.5, targets="mlp", dora=True, rslora=True, quantize="nf4")
    assert parse(said) == asked == parse(json.dumps(vars(asked)))
    assert SFT(adapter=said).adapting() == asked
    assert LoRA(**vars(asked)).adapting() == asked


def test_without_one_the_whole_model_is_trained():
    assert parse("") is None and SFT().adapting() is None and SFT(adapter="{}").adapting() == Adapter()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{rnak: 8}", 'adapter: unknown setting "rnak", did you mean "rank"? (there are: rank, alpha, '),
        ("{1: 8}", 'adapter: unknown setting "1"'),
        ("{rank: 0}", "adapter: rank: must be at least 1, not 0"),
        ("{rank: -3}", "adapter: rank: must be at least 1, not -3"),
        ("{rank: 1.5}", "adapter: rank: must be a whole number, not 1.5"),
        ("{rank: true}", "adapter: rank: must be a whole number, not True"),
        ("{rank: }", "adapter: rank: must be a whole number, not None"),
        ("{alpha: 0}", "adapter: alpha: must be above 0, not 0"),
        ("{alpha: .nan}", "adapter: alpha: must be above 0, not nan"),
        ("{alpha: .inf}", "adapter: alpha: must be above 0, not inf"),
        ("{dropout: 1}", "adapter: dropout: must be at least 0 and below 1, not 1"),
        (
            "{targets: atention}",
            "adapter: targets: must be one of attention, mlp, all-linear, not 'atention', did you mean ",
        ),
        ("{targets: [mlp]}", "must be one of attention, mlp, all-linear"),
        ("{dora: 1}", "adapter: dora: must be true or false, not 1"),
        ("{quantize: nf8}", "adapter: quantize: must be one of"),
        *(
            (text, "adapter: give its settings, as in {rank")
            for text in ("8", "lora", "[8]", "{", "{[1]: 2}", "rank=8")
        ),
    ],
)
@pytest.mark.parametrize("config", [SFT, DPO])
def test_what_is_no_adapter_is_refused_in_one_line(text, said, config):
    with pytest.raises(JourneyError) as error:
        config(adapter=text)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_recipe_may_write_a_mapping_and_the_order_of_its_keys_is_no_setting():
    hint = SFT.__annotations__["adapter"]
    kept = fit({"targets": "mlp", "rank": 8}, hint)
    assert kept == '{"rank": 8, "targets": "mlp"}' == fit({"rank": 8, "targets": "mlp"}, hint)
    assert parse(kept) == Adapter(rank=8, targets="mlp")
    assert parse(fit({}, hint)) == Adapter()


def test_a_lora_stage_has_settings_of_its_own():
    for config in ({"adapter": "{}"}, {"adapter": "{rank: 3}", "rank": 3}):
        with pytest.raises(JourneyError, match="adapter: a lora stage says rank, targets and the rest as settings of"):
            LoRA(**config)


def test_a_rate_is_some_times_the_models():
    for kind, fitted in ((SFT, lambda config: config.fitting(10_000, 64, 80)), (DPO, lambda c: c.fitting(10_000))):
        whole, adapted = (fitted(kind(adapter=text))[0].lr for text in ("", "{}"))
        assert adapted == pytest.approx(2.5 * whole)  # of a model as small as this
    assert LoRA().fitting(10_000, 64, 80)[0].lr == SFT(adapter="{}").fitting(10_000, 64, 80)[0].lr
