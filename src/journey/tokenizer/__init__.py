"""Text to ids: learning a byte-level BPE, a readable codec, and the files that every tool opens."""
