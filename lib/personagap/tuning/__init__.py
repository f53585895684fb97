"""Every training run: classifiers, GRPO, DPO and reward models, each seeded and repeatable."""
