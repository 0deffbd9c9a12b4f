"""Small trainable parts put into SAM's frozen encoder: LoRA, Conv-LoRA, bottlenecks and SAM-Adapter."""
