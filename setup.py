"""Packaging of amtml_jax; tool settings live in pyproject.toml."""

import pathlib

from setuptools import setup

HERE = pathlib.Path(__file__).parent

# A wheel carries configs/ and experiments/ too, as amtml_jax.configs and
# amtml_jax.experiments, so that `--config=digits` works without a clone.
PACKAGES = {
  "amtml_jax": "amtml_jax",
  "amtml_jax.adapters": "amtml_jax/adapters",
  "amtml_jax.configs": "configs",
  "amtml_jax.data": "amtml_jax/data",
  "amtml_jax.experiments": "experiments",
  "amtml_jax.losses": "amtml_jax/losses",
  "amtml_jax.models": "amtml_jax/models",
}

setup(
  name="amtml-jax",
  version="0.1.0",
  description="Adaptive multi-teacher multi-level knowledge distillation "
  "(AMTML-KD) in JAX and Flax",
  long_description=(HERE / "README.md").read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  packages=list(PACKAGES),
  package_dir=PACKAGES,
  python_requires=">=3.11",
  install_requires=[
    "absl-py>=2.1",
    "flax>=0.12,<0.14",
    "grain>=0.2.18,<0.3",
    "jax>=0.10,<0.13",
    "ml-collections>=1.1",
    "numpy>=2.0",
    "optax>=0.2.5,<0.4",
    "orbax-checkpoint>=0.12,<0.13",
    "rich>=13.9",
    "scikit-learn>=1.5",
    "tensorboardX>=2.6.2",
    "tensorflow-datasets>=4.9.8",
    # TFDS needs these two and does not say so.
    "importlib_resources>=6.0",
    "pillow>=10.3",
  ],
  extras_require={
    "report": ["matplotlib>=3.9"],
    "tests": [
      "hypothesis>=6.130",
      "jaxtyping>=0.3",
      "matplotlib>=3.9",
      "pytest>=9.0",
      "pytest-xdist>=3.6",
      "ruff>=0.15,<0.18",
      "typeguard>=4.4",
    ],
    "cuda12": ["jax[cuda12]>=0.10,<0.13"],
    "cuda13": ["jax[cuda13]>=0.10,<0.13"],
    # For experiments/benchmark.py alone; the package never imports it.
    "torch": ["torch>=2.6"],
    "tpu": ["jax[tpu]>=0.10,<0.13"],
  },
  entry_points={"console_scripts": ["amtml=amtml_jax.cli:main"]},
)
