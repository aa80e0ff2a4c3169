"""Direct preference optimization (Rafailov et al. 2023), by TRL's DPOTrainer: the model learns to prefer.

The loss of a pair is -ln σ(β · margin): the margin is how much more likely the chosen answer has become than under the
saved parent, less the same of the rejected one. Before the first step nothing has changed, so the margin must be 0 and
the loss ln 2; a model that starts elsewhere was not compared with itself, and the stage says so instead of training.
"""

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from journey.checkpoint import Node, open_tokenizer
from journey.errors import JourneyError
from journey.fields import Count, NonNegative, Positive, Settings, Share
from journey.files import write_json
from journey.metrics import metric
from journey.stages.cost import Cost, training
from journey.stages.inputs import Input, names
from journey.stages.run import Run, Stopped, stage
from journey.stages.story import Story, Told, curves, facts
from journey.train import lora, rates
from journey.train.finish import write_model
from journey.train.history import HISTORY
from journey.train.schedule import ScheduleName
from journey.train.trl import Shell, answer_flops, answer_nats, longest, make_trainer

if TYPE_CHECKING:
    from journey.data.preferences import Pair
    from journey.tokenizer.formats import Tokenizer

_TOLERANCE = 1e-3  # nats: what the first loss and margin may be off


class Row(NamedTuple):
    """A pair: the ids of the prompt, of the chosen and of the rejected answer."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    @property
    def tokens(self) -> int:
        """Of the prompt with each of the answers."""
        return 2 * len(self.prompt_ids) + len(self.chosen_ids) + len(self.rejected_ids)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DPO:
    """Settings of the dpo stage."""

    data: str = names(
        "",
        Input(("pairs",), files="conversations"),
        "a pairs node, a file of preferences (.jsonl, .json, .csv, .parquet, …), or ultrafeedback or hh-rlhf",
    )
    max_pairs: Count | None = None
    """Train on no more pairs than this, chosen at random."""
    beta: Positive = 0.1
    """How dear it is to move away from the parent: the higher, the closer the model stays."""
    epochs: Count = 1
    """How often each pair is seen."""
    batch_size: Count = 16
    """Pairs a step."""
    lr: NonNegative | None = None
    """Peak learning rate of AdamW (none: by the model's size and batch_size)."""
    schedule: ScheduleName = "linear"
    """The learning rate after its rise: down to the end in a line or by a cosine; level for half of the steps and then
    down (wsd); by the inverse square root of the step; or level."""
    warmup: NonNegative = 0.1
    """Where the learning rate rises: below 1 a share of the steps, from 1 on their number."""
    floor: Share = 0.0
    """Where a schedule that falls to an end, ends: a share of the peak."""
    weight_decay: NonNegative = 0.0
    """AdamW's."""
    clip: NonNegative = 1.0
    """Largest norm of the gradient (0: any)."""
    max_length: Count | None = None
    """Longest prompt and answer in tokens (none: the model's context)."""
    evaluations: Count = 5
    """How often the dev split is scored through training."""
    adapter: Settings = ""
    """Train an adapter and leave the model as it is: {rank: 16, targets: all-linear}, or {} for the usual."""
    strict: bool = False
    """Refuse a file with a row that cannot be used, instead of leaving such rows out."""

    def __post_init__(self) -> None:
        if (adapter := lora.parse(self.adapter)) and adapter.dropout:
            raise JourneyError("adapter: dropout: dpo compares the model with itself as it was, both without: leave it")

    def fitting(self, n_params: int) -> tuple["DPO", list[str]]:
        """With the rate chosen for a model of this size, if none is set; and the line that says so."""
        if self.lr is not None:
            return self, []
        lr, why = rates.dpo(n_params, self.batch_size, bool(self.adapter))
        return dataclasses.replace(self, lr=lr), [why]

    def following(self, n_params: int | None, before: Sequence[Any]) -> list[str]:
        """What `fitting` will say."""
        if n_params is None:
            return [] if self.lr is not None else ["lr by its parent's size"]
        return self.fitting(n_params)[1]

    def cost(self, before: Sequence[Any]) -> Cost:
        """Of a pocket life's pairs."""
        return training([self, *before])


@stage(
    takes="model",
    makes="model",
    why=(
        "Direct preference optimization raises the odds of the chosen answer over the rejected one, measured against "
        "the model before (the *reference*, which stays as it was). There is no reward model: the reward is how much "
        "likelier an answer has become than under the reference. Before the first step both are the same model, so "
        "every pair stands at a tie and the loss is ln 2 = 0.693."
    ),
    example="journey dpo --parent chat --data pairs --out preferred",
    shows=("preference_accuracy vs chance", "policy_kl"),
    goal="a chat model",
    version=4,
)
def dpo(parent: Node, config: DPO, run: Run) -> dict[str, Any]:
    """Train the parent to prefer the chosen answers and save it as a Hugging Face folder."""
    from journey.data import rows
    from journey.data.preferences import save
    from journey.model.huggingface import load_config

    tokenizer = open_tokenizer(parent.path)
    shape = load_config(parent.path)
    limit = longest(config.max_length, shape.n_ctx)
    parts, left_out = _read(config, run)
    config, chosen = config.fitting(shape.n_params)
    for line in chosen:
        run.say(f"{run.name}: {line}")
    train, dev = (encode_pairs(parts[name], tokenizer, limit, run, name) for name in ("train", "dev"))
    tokens = config.epochs * sum(row.tokens for row in train)
    answers = config.epochs * sum(len(chosen) + len(rejected) for _, chosen, rejected in train)
    forward = 4 / 3  # the reference, too, goes forward
    flops = forward * answer_flops(shape, tokens, 2 * config.epochs * len(train), answers)
    own: Any = {"beta": config.beta, "max_length": None, "adapter": lora.parse(config.adapter)}
    trainer = make_trainer(PreferenceTrainer, parent.path, train, dev, config, run, flops=flops, **own)
    adapted = lora.metrics(trainer.model)
    reference_before = weights_hash(trainer.reference)
    history = trainer.fit()
    if history is None:
        raise Stopped
    reference_after = weights_hash(trainer.reference)
    if reference_after != reference_before:
        raise JourneyError("the reference model changed in training, so no margin means anything: report this")
    write_model(trainer.model, parent, tokenizer, run.folder)
    save(parts["test"], run.folder / "pairs-test.jsonl")
    start = {"step": 0, "tokens": 0} | margin_numbers(np.zeros(len(dev)), config.beta)  # what `check_start` has seen
    write_json(run.folder / HISTORY, [start, *history])
    trainer.written.finish(run.folder)
    facts = {
        "reference": {"id": parent.id, "sha256_before": reference_before, "sha256_after": reference_after},
        "first_loss": history[0]["loss"],
        "first_margin": history[0]["margin"],
        "pairs": {name: len(part) for name, part in parts.items()},
    } | ({"left_out": left_out} if left_out else {})
    write_json(run.folder / "dpo.json", facts)

    return {
        "tokens": tokens,
        "flops": flops,
        "chosen": {"lr": config.lr, "why": chosen},
        "metrics": {
            "pairs": metric(len(train)),
            "steps": metric(len(history)),
            "first_loss": metric(
                history[0]["loss"], "nats", "before the first step: ln 2 where the reference is right"
            ),
            "first_margin": metric(
                history[0]["margin"], "nats", "before the first step: 0 where the reference is right"
            ),
        }
        | adapted
        | _dev_metrics(trainer.dev_margins(), config.beta)
        | rows.metrics(left_out),
    }


def _read(config: DPO, run: Run) -> tuple[dict[str, list["Pair"]], dict[str, int]]:
    """The pairs of the train, dev and test split; of a file, how many of its rows were left out for which reason."""
    from journey.data.conversations import first_question, split
    from journey.data.preferences import load, saved

    left_out: dict[str, int] = {}
    if node := run.given.get("data"):
        parts = {name: saved(node.path / f"pairs-{name}.jsonl") for name in ("train", "dev", "test")}
    elif config.data:
        pairs, left_out = load(config.data, config.strict, run.say)
        parts = split(pairs, run.seed, lambda pair: first_question(pair.prompt))
    else:
        raise JourneyError("dpo needs preferences: set data to a pairs stage of the recipe, its node, or a file")
    drawn = np.random.default_rng((run.seed, 4)).permutation(len(parts["train"]))
    return parts | {"train": [parts["train"][i] for i in drawn[: config.max_pairs]]}, left_out


def encode_pairs(pairs: Sequence["Pair"], tokenizer: "Tokenizer", limit: int, run: Run, name: str) -> list[Row]:
    """The pairs of which both rows have `limit` tokens at most; nothing is cut, and what is left out is said.

    JourneyError when fewer than two are left.
    """
    from journey.data.preferences import encode

    rows = [Row(*encode(pair, tokenizer)) for pair in pairs]
    fitting = [row for row in rows if len(row[0]) + max(len(row[1]), len(row[2])) <= limit]
    if len(fitting) < len(rows):
        run.say(f"{len(rows) - len(fitting):,} {name} pairs left out: longer than {limit} tokens")
    if len(fitting) < 2:
        raise JourneyError(
            f"{len(fitting)} {name} pairs of {len(rows):,} fit in {limit} tokens, 2 are needed: give more"
        )
    return fitting


class PreferenceTrainer(Shell):
    """DPO, against the reference that TRL loads: the model that stands in the folder which training starts from."""

    method = "DPO"
    line = (
        "step", "tokens", "loss", "margin", "accuracy", "lr", "grad_norm", "dev_loss", "dev_accuracy", "dev_margin",
    )  # fmt: skip
    shown = ("loss", "accuracy")
    with_reference = True
    ref_model: Any  # None where an adapter is trained

    @property
    def reference(self) -> Any:
        """The model that holds the reference's weights."""
        return self.model if self.ref_model is None else self.ref_model

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean over the pairs of -ln σ(β · margin)."""
        import torch
        import torch.nn.functional as F

        with torch.no_grad():
            before = self.reference_logps(inputs)
        margins = pair_margins(answer_logps(model, inputs), before)  # (B,)
        loss = -F.logsigmoid(self.args.beta * margins).mean()
        self.margins = margins.detach().double().cpu().numpy()
        if self.state.global_step == 0:
            check_start(loss.item(), float(self.margins.mean()))
        return loss

    def step_numbers(self, loss: float) -> dict[str, float]:
        """Mean margin and accuracy of the step's pairs."""
        from journey.evaluate.preferences import preferred

        return {"margin": float(self.margins.mean()), "accuracy": float(np.mean(preferred(self.margins)))}

    def dev_numbers(self) -> dict[str, float]:
        """Loss, accuracy and mean margin."""
        return margin_numbers(self.dev_margins(), self.args.beta)

    def dev_margins(self) -> np.ndarray:
        """Each dev pair's margin in nats, (dev pairs,)."""
        chosen, rejected = self.dev_logps(lambda inputs: answer_logps(self.model, inputs)) - self.dev_before
        return chosen - rejected

    @functools.cached_property
    def dev_before(self) -> np.ndarray:
        """The same under the reference, which stays as it is."""
        return self.dev_logps(self.reference_logps)

    def reference_logps(self, inputs: dict[str, Any]) -> Any:
        """`answer_logps` under the reference: a model of its own, or what an adapter stands on."""
        if self.ref_model is not None:
            return answer_logps(self.ref_model, inputs)
        with self.model.disable_adapter():
            return answer_logps(self.model, inputs)

    def dev_logps(self, score: Callable[[Any], Any]) -> np.ndarray:
        """ln p of the dev pairs' answers, (2, dev pairs): the chosen, the rejected; `score` as `answer_logps`."""
        found = np.zeros((2, len(self.dev)))
        for places, logps in self.over_dev(score):
            found[:, places] = logps.view(2, -1).double().cpu().numpy()
        return found


def answer_logps(model: Any, inputs: dict[str, Any]) -> Any:
    """ln p of each row's answer, (2B,), of a batch (2B, T): first the chosen, then the rejected."""
    answer = inputs["completion_mask"][:, 1:].bool()  # (2B, T-1): what predicts an answer's token
    each = -answer_nats(model, inputs["input_ids"], answer, "none")  # (answer tokens,)
    return each.new_zeros(answer.shape).masked_scatter(answer, each).sum(1)


def pair_margins(after: Any, before: Any) -> Any:
    """Margins (B,) from the log-probabilities (2B,) of the answers under the model and under the reference."""
    chosen, rejected = (after - before).chunk(2)
    return chosen - rejected


def check_start(loss: float, margin: float) -> None:
    """JourneyError unless the first batch's loss is ln 2 and its margin 0."""
    if not (abs(loss - math.log(2)) <= _TOLERANCE and abs(margin) <= _TOLERANCE):
        raise JourneyError(
            f"before the first step the loss is {loss:.4f} and the margin {margin:.4f} nats, not 0.6931 and 0: the "
            "reference is not the model that training starts from; make the parent again from its recipe"
        )


def margin_numbers(margins: np.ndarray, beta: float) -> dict[str, float]:
    """Loss, accuracy and mean margin of the dev pairs."""
    from journey.evaluate.preferences import preferred

    return {
        "dev_loss": float(pair_losses(margins, beta).mean()),
        "dev_accuracy": float(np.mean(preferred(margins))),
        "dev_margin": float(margins.mean()),
    }


def pair_losses(margins: np.ndarray, beta: float) -> np.ndarray:
    """-ln σ(β · margin) of each pair, (n,)."""
    with np.errstate(invalid="ignore"):  # of a model that is no number any more: `check` says so
        return np.logaddexp(0, -beta * margins)


def weights_hash(model: Any) -> str:
    """SHA-256 of a model's weights, by name; without those of an adapter in it."""
    import torch

    whole = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        if "lora_" in name:
            continue
        whole.update(name.encode())
        whole.update(weight.cpu().contiguous().view(torch.uint8).numpy())
    return whole.hexdigest()


def _dev_metrics(margins: np.ndarray, beta: float) -> dict[str, Any]:
    """The same with their intervals."""
    from journey.evaluate import statistics
    from journey.evaluate.preferences import preferred

    pairs = "pairs of the dev split"
    estimates = {
        "dev_loss": statistics.mean(pair_losses(margins, beta), "nats", pairs),
        "dev_accuracy": statistics.proportion(
            preferred(margins), "", f"share of the {pairs} with a margin above 0; 0 counts half"
        ),
        "dev_margin": statistics.mean(margins, "nats", pairs),
    }
    return {name: estimate.metric() for name, estimate in estimates.items()}


@dpo.tells
def tell(told: Told) -> Story:
    """As every training; its loss is of a pair."""
    return Story([facts(told), *curves(told, "nats/pair")])
