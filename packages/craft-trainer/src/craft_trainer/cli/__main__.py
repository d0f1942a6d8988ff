"""``python -m craft_trainer.cli``, as ``python -m cas_metric.cli``."""

from craft_trainer.cli.main import main

if __name__ == "__main__":
    main()
