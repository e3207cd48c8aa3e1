"""How it writes: the loop, the grammar, scripts, locks, voice leading, the ONNX back end, batching."""
