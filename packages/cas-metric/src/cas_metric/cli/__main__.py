"""``python -m cas_metric.cli``, the form that ``accelerate launch -m`` and ``torchrun -m`` need."""

from cas_metric.cli.main import main

if __name__ == "__main__":
    main()
