"""No code in a checkpoint is ever run: pickles that want to, and files that are not what they say."""

import builtins
import collections
import copyreg
import functools
import io
import operator
import os
import pickle
import pickletools
import random
import struct
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from journey.errors import JourneyError
from journey.model import foreign
from journey.model.foreign import pickles
from journey.model.foreign.pickles import Name, Record
from journey.model.foreign.torchfile import TorchFile


class Call:
    """Pickles as a call of `function`: what unpickling it would run."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class Stateful:
    """Pickles as an object that is built and then given a state, which can run code in __setstate__."""

    def __reduce__(self):
        return collections.Counter, (), Call(os.system, "touch canary")


class Items:
    """Pickles with items that are put into it one by one: a dict's __setitem__ can be anyone's."""

    def __reduce__(self):
        return collections.defaultdict, (Call(eval, "print"),), None, None, iter([("a", Call(eval, TOUCH))])


def saved_by_torch(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


TOUCH = "open('canary', 'w').close()"
GADGETS = {
    "os.system": Call(os.system, "touch canary"),
    "eval": Call(eval, TOUCH),
    "exec": Call(exec, TOUCH),
    "open": Call(open, "canary", "w"),
    "import": Call(__import__, "antigravity_canary"),
    "getattr": Call(getattr, Call(eval, TOUCH), "name", None),
    "partial": Call(functools.partial(os.system, "touch canary")),
    "methodcaller": Call(operator.methodcaller("touch"), Path("canary")),
    "torch's own bytes": Call(torch.storage._load_from_bytes, saved_by_torch(Call(eval, TOUCH))),
    "torch's rebuild": Call(torch._utils._rebuild_tensor_v2, Call(eval, TOUCH), 0, (1,), (1,), False, {}),
    "torch's parameter": Call(torch._utils._rebuild_parameter, Call(eval, TOUCH), False, {}),
    "reconstructor": Call(copyreg._reconstructor, Call(eval, "int"), object, None),
    "a state": Stateful(),
    "items": Items(),
    "a nested list": [[({"deep": Call(os.system, "touch canary")},)]],
    "a key": {("a", Call(eval, TOUCH)): 1},
}


class WithEvilIds(pickle.Pickler):
    """Persistent ids that hold a call."""

    def persistent_id(self, value):
        return ("storage", Call(eval, TOUCH), "0", "cpu", 4) if value is EVIL_STORAGE else None


EVIL_STORAGE = object()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def innocent():
    assert not Path("canary").exists(), "code in the checkpoint was run"
    assert "antigravity_canary" not in sys.modules


@pytest.mark.parametrize("name", ["os.system", "eval", "exec", "open", "getattr", "partial", "torch's own bytes"])
def test_the_gadgets_work_where_they_are_run(name):
    """Else the tests below would prove nothing."""
    pickle.loads(pickle.dumps(GADGETS[name]))
    assert Path("canary").exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", GADGETS)
def test_nothing_is_run(name, protocol):
    pickles.load(io.BytesIO(pickle.dumps(GADGETS[name], protocol)))
    innocent()


def small(**more):
    """nanoGPT's file of a very small model."""
    C = 4
    shapes = {
        "wte.weight": (7, C), "wpe.weight": (5, C), "h.0.ln_1.weight": (C,), "h.0.attn.c_attn.weight": (3 * C, C),
        "h.0.attn.c_proj.weight": (C, C), "h.0.ln_2.weight": (C,), "h.0.mlp.c_fc.weight": (4 * C, C),
        "h.0.mlp.c_proj.weight": (C, 4 * C), "ln_f.weight": (C,),
    }  # fmt: skip
    state = {f"transformer.{name}": torch.randn(shape) for name, shape in shapes.items()}
    return {"model": state, "model_args": {"n_layer": 1, "n_head": 2, "n_embd": 4, "bias": False}, "iter_num": 1} | more


@pytest.mark.parametrize("name", GADGETS)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_with_a_gadget_beside_its_weights_is_read_and_nothing_is_run(name, zipped):
    torch.save(small(config=GADGETS[name]), "ckpt.pt", _use_new_zipfile_serialization=zipped)
    source = foreign.read(Path("ckpt.pt"))
    assert source.facts["iter_num"] == 1 and source.config.n_layer == 1
    innocent()


@pytest.mark.parametrize("name", [name for name in GADGETS if name != "a key"])
def test_a_gadget_in_the_place_of_a_weight_is_no_weight(name):
    saved = small()
    saved["model"]["transformer.ln_f.weight"] = GADGETS[name]
    torch.save(saved, "ckpt.pt")
    with pytest.raises(
        JourneyError, match=r"ckpt.pt: (the tensor transformer.ln_f.weight is missing|a tensor of a kind)"
    ):
        foreign.read(Path("ckpt.pt"))
    innocent()


def test_a_whole_checkpoint_that_is_a_call_is_refused():
    torch.save(Call(os.system, "touch canary"), "ckpt.pt")
    with pytest.raises(JourneyError, match=r"holds a (posix|nt).system, not a state dict"):
        foreign.read(Path("ckpt.pt"), "gpt2")
    innocent()


def archive(pickled, **storages):
    """A zip of torch.save's layout around any pickle."""
    with zipfile.ZipFile("ckpt.pt", "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for key, data in storages.items():
            file.writestr(f"archive/data/{key.removeprefix('s')}", data)
    return Path("ckpt.pt")


def test_a_call_inside_a_persistent_id_is_not_made():
    stream = io.BytesIO()
    pickler = WithEvilIds(stream, 2)
    call = Call(torch._utils._rebuild_tensor_v2, EVIL_STORAGE, 0, (4,), (1,), False, {})
    pickler.dump({"transformer.wte.weight": call})
    with pytest.raises(JourneyError, match="a tensor of a kind that is not read, or damaged"):
        foreign.read(archive(stream.getvalue(), s0=bytes(16)), "gpt2")
    innocent()


def rebuilt(size, stride, offset=0, n=4, key="0", kind=torch.FloatStorage):
    """The pickle of a dict with one tensor, as torch.save writes it, of any shape."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", kind, key, "cpu", n) if value is EVIL_STORAGE else None

    stream = io.BytesIO()
    call = Call(torch._utils._rebuild_tensor_v2, EVIL_STORAGE, offset, size, stride, False, collections.OrderedDict())
    Pickler(stream, 2).dump({"wte.weight": call})
    return stream.getvalue()


def test_a_tensor_is_what_its_storage_size_and_stride_say():
    path = archive(rebuilt((2, 2), (1, 2)), s0=struct.pack("<4f", 1, 2, 3, 4))
    file = TorchFile(path)
    assert file.tensor(file.root["wte.weight"]).tolist() == [[1, 3], [2, 4]]
    assert file.tensor(5) is None and file.tensor(Record("x")) is None


HUGE = 1 << 62


@pytest.mark.parametrize(
    "pickled",
    [
        rebuilt((5,), (1,)),  # more than there is
        rebuilt((HUGE, HUGE), (0, 0)),  # a view of one number that would fill every memory
        rebuilt((HUGE,), (HUGE,)),  # an address beyond 64 bits
        rebuilt((2,), (-1,), offset=3),
        rebuilt((2,), (1,), offset=-1),
        rebuilt((-2, -2), (1, 1)),
        rebuilt((1,), (1,), offset=4),
        rebuilt((4,), (1,), n=1 << 40),
        rebuilt((4,), (1,), n=True),
        rebuilt((4.0,), (1,)),
        rebuilt("4", "1"),
        rebuilt((4, 1), (1,)),
        rebuilt((4,), (1,), key="1"),  # no such storage
        rebuilt((4,), (1,), key="../data.pkl"),
        rebuilt((4,), (1,), kind=torch.DoubleStorage),  # its bytes would be half of what it needs
        rebuilt((4,), (1,), kind=torch.nn.Linear),
        rebuilt((1,) * 9, (1,) * 9),
        rebuilt(None, None),
    ],
)
def test_a_tensor_that_does_not_fit_in_its_storage_is_refused(pickled):
    with pytest.raises(JourneyError, match=r"ckpt.pt: a tensor (does not fit|of a kind)") as error:
        foreign.read(archive(pickled, s0=bytes(16)), "gpt2")
    assert "\n" not in str(error.value)


def test_zip_bombs_are_refused():
    with zipfile.ZipFile("ckpt.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", rebuilt((4,), (1,)))
        file.writestr("archive/data/0", bytes(1 << 20))
    with pytest.raises(JourneyError, match="is compressed, which"):
        foreign.read(Path("ckpt.pt"), "gpt2")
    # An entry that claims to be longer than the file: its size in the directory, changed.
    path = archive(rebuilt((4,), (1,)), s0=bytes(16))
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    path.write_bytes(data)
    with pytest.raises(JourneyError, match="an entry is longer than the file"):
        foreign.read(path, "gpt2")
    data[entry + 42 : entry + 46] = struct.pack("<I", len(data) - 5)
    path.write_bytes(data)
    with pytest.raises(JourneyError, match="cut off or damaged"):
        foreign.read(path, "gpt2")


def test_other_archives_are_told():
    with zipfile.ZipFile("ckpt.pt", "w") as file:
        file.writestr("word/document.xml", "x")
    with pytest.raises(JourneyError, match="a zip archive, but not one of"):
        foreign.read(Path("ckpt.pt"), "gpt2")
    torch.jit.script(torch.nn.Linear(2, 2)).save("ckpt.pt")
    with pytest.raises(JourneyError, match="TorchScript"):
        foreign.read(Path("ckpt.pt"), "gpt2")
    Path("ckpt.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(JourneyError, match="no file of"):
        foreign.read(Path("ckpt.pt"), "gpt2")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_off_or_damaged_anywhere_is_told(zipped):
    torch.save(small(), "ckpt.pt", _use_new_zipfile_serialization=zipped)
    whole = Path("ckpt.pt").read_bytes()
    assert foreign.read(Path("ckpt.pt")).config.n_embd == 4
    rng = random.Random(0)
    for length in sorted(rng.sample(range(len(whole)), 40)):
        Path("ckpt.pt").write_bytes(whole[:length])
        with pytest.raises(JourneyError, match=r"ckpt.pt"):
            foreign.read(Path("ckpt.pt"))
    for _ in range(200):  # a byte changed: an error that is told, or nothing that matters
        data = bytearray(whole)
        data[rng.randrange(len(whole) // 3)] = rng.randrange(256)
        Path("ckpt.pt").write_bytes(data)
        try:
            foreign.read(Path("ckpt.pt"))
        except JourneyError as error:
            assert "\n" not in str(error)


def test_plain_values_are_what_pickle_reads():
    """All that is no object, by every protocol, against pickle itself."""
    values = [
        {"a": [1, -1, 255, 256, 65536, -(2**31), 2**100, -(2**70)], "b": (1.5, -0.0, float("inf")), "c": None},
        [True, False, b"\x00\xff", "é" * 300, "", (), [], {}, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        collections.OrderedDict([("x", {"y": collections.OrderedDict()})]),
        {1: "int", 2.5: "float", None: "none", b"b": "bytes"},
    ]
    shared = ["again"]
    values.append([shared, shared, {"s": shared}])
    for value in values:
        for protocol in range(3 if value in (values[1], values[3]) else 0, 6):  # before 3, bytes are a call
            assert pickles.load(io.BytesIO(pickle.dumps(value, protocol))) == value
    again = pickles.load(io.BytesIO(pickle.dumps(values[-1])))
    assert again[0] is again[1] is again[2]["s"]


def test_objects_are_records_of_what_was_asked():
    found = pickles.load(io.BytesIO(pickle.dumps(Call(os.system, "ls"))))
    assert found.name.endswith(".system") and found.args == ("ls",)
    assert isinstance(pickles.load(io.BytesIO(pickle.dumps(int))), Name)
    assert pickles.load(io.BytesIO(pickle.dumps({1, 2}))).name in ("builtins.set", "__builtin__.set")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"N",
        b"0.",
        b"R.",
        b"c",
        b"cos\nsystem\n",
        b"(lp0\n(g9\n.",
        b"\x80\x04\x95",
        b"K\x01s.",
        b"e.",
        b"\x85.",
    ],
)
def test_a_broken_pickle_is_told(data):
    with pytest.raises(JourneyError, match="pickle"):
        pickles.load(io.BytesIO(data))


def test_a_length_that_a_file_does_not_have_takes_no_memory():
    for opcode in (b"\x8e", b"\x8d", b"\x96"):  # BINBYTES8, BINUNICODE8, BYTEARRAY8
        with pytest.raises(JourneyError, match="pickle"):
            pickles.load(io.BytesIO(opcode + struct.pack("<Q", (1 << 62) - 1) + b"."))


def test_keys_that_would_take_for_ever_to_hash():
    """A tuple of two of a tuple of two of …, 60 deep: hashing it would take 2 to the 60th steps."""
    data = b"}" + b"N" + b"2\x86" * 60 + b"K\x01s."
    assert len(pickles.load(io.BytesIO(data))) == 1


def test_every_instruction_of_the_machine_is_known():
    """One that is not would push its argument: those are numbers, texts and bytes alone."""
    pushed = {o.name for o in pickletools.opcodes if o.stack_after and o.arg and not o.stack_before}
    machine = Path(pickles.__file__).read_text()
    literal = {name for name in pushed if f'"{name}"' not in machine}
    assert literal == {
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING",
        "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
        "BINUNICODE8", "FLOAT", "BINFLOAT",
    }  # fmt: skip
    others = {o.name for o in pickletools.opcodes} - literal - {"STOP"}
    assert [name for name in others if f'"{name}"' not in machine] == []


def test_the_readers_neither_import_nor_call_by_name():
    """No unpickler, no eval, no import by name in the rooms that read checkpoints."""
    forbidden = (
        "pickle.load",
        "Unpickler",
        "torch.load",
        "import_module",
        "__import__",
        "eval(",
        "exec(",
        "getattr(builtins",
    )
    for path in Path(foreign.__file__).parent.glob("*.py"):
        text = path.read_text().replace(".eval()", "")
        assert not [word for word in forbidden if word in text.replace("pickles.load", "")], path
    assert not hasattr(builtins, "canary")
