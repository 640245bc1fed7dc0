"""Rules over all streams of one ingress replica: who may come in, whose turn it is, what is too dangerous. PURE."""
