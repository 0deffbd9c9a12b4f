"""Small trainable parts put into SAM's frozen encoder: LoRA, Conv-LoRA and bottleneck adapters."""
