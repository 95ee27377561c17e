"""Real-time streaming speech recognition: samples in, words out, the same however they are cut."""
