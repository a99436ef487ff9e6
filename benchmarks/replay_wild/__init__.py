"""Replays what other people's ComfyUI did to the pack: `python -m benchmarks.replay_wild`."""
