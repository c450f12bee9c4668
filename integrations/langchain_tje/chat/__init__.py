"""A gated chat model: two models and a gate as one."""
