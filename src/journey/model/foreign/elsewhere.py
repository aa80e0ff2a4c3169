"""What people have in the place of a checkpoint that we read, and what they can do with it."""

from pathlib import Path

from journey.model.adapter import CONFIG as ADAPTER

A_PEFT_ADAPTER = (
    f"holds a PEFT adapter ({ADAPTER}), no whole model: with its base on this machine every verb opens it as it is, "
    "and `journey merge FOLDER --out DIR` makes a whole model of it"
)
_FILES = {  # how it begins -> what it is
    b"GGUF": "a GGUF file, for llama.cpp: import the Hugging Face folder that it was made from",
    b"\x89HDF": "an HDF5 file of Keras: save the model by transformers in PyTorch, and import that folder",
    b"\x93NUM": "a NumPy array: save the model's state_dict() by torch.save or safetensors",
}
_FOLDERS = {  # a pattern of files -> what the folder is; the first that is there counts
    ADAPTER: A_PEFT_ADAPTER,
    "params.json": "is Meta's or Mistral's own format (params.json, consolidated weights): download the model's "
    "Hugging Face form, or convert it by transformers' convert_llama_weights_to_hf.py",
    "consolidated.*": "holds consolidated weights without a config.json: download the model's Hugging Face form",
    "*.distcp": "is a checkpoint of torch.distributed: make one file of it (python -m "
    "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.pt), and import that",
    "zero_to_fp32.py": "is a checkpoint of DeepSpeed: make one file of it (its own zero_to_fp32.py), and import that",
    "*model_states.pt": "is a part of a checkpoint of DeepSpeed: make one file by zero_to_fp32.py, and import that",
    "snapshots/*/config.json": "is a repository in Hugging Face's cache: name the folder inside its snapshots/",
    "checkpoint-*/config.json": "is a Trainer's output folder: name one of the checkpoint-… folders inside",
    "*.ckpt.index": "is a checkpoint of TensorFlow: import openai-community/gpt2's Hugging Face folder instead",
    "*.gguf": "holds a GGUF file, for llama.cpp: import the Hugging Face folder that it was made from",
    "tokenizer.json": "holds a tokenizer without a model: name the folder with config.json and the weights",
}
_WEIGHTS = {
    "model-*.safetensors": "{0} is a shard: give the shards their model.safetensors.index.json",
    "model.*.safetensors": "{0} is a variant: rename it to model.safetensors",
    "*.safetensors": "{0} goes by another name: rename it to model.safetensors, or import the file itself",
    "pytorch_model*.bin": "{0} is a variant or a shard: rename a variant to pytorch_model.bin, or give the shards "
    "their pytorch_model.bin.index.json",
    "tf_model*": "{0} is TensorFlow's: save the model by transformers in PyTorch",
    "flax_model*": "{0} is Flax's: save the model by transformers in PyTorch",
    "*.gguf": "{0} is for llama.cpp: import the Hugging Face folder that it was made from",
    "*.distcp": "{0} is a part of a checkpoint of torch.distributed: make one file of it by dcp_to_torch",
    "consolidated.*": "{0} is in Meta's or Mistral's own format: download the model's Hugging Face form",
    "*model_states.pt": "{0} is DeepSpeed's: make one file by its zero_to_fp32.py",
    "*.pt": "{0} goes by another name: import the file itself",
}
_READ = (".pt", ".pth", ".bin", ".safetensors")


def instead_of_file(head: bytes) -> str | None:
    """What a file is that begins so, where it is none that we read."""
    return _FILES.get(head[:4])


def instead_of_folder(folder: Path) -> str:
    """What a folder without config.json is, and what to do."""
    for pattern, what in _FOLDERS.items():
        if any(folder.glob(pattern)):
            return what
    files = sorted(file.name for file in folder.iterdir() if file.suffix in _READ)
    return "has no config.json: it is no Hugging Face folder" + (
        f"; name a file in it ({', '.join(files[:3])})" if files else ""
    )


def instead_of_weights(folder: Path) -> str:
    """What a folder has where model.safetensors or pytorch_model.bin should be."""
    for pattern, what in _WEIGHTS.items():
        if found := sorted(folder.glob(pattern)):
            return what.format(found[0].name)
    return "model.safetensors or pytorch_model.bin"
