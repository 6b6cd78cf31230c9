"""scikit-learn's digits: three teachers, one student, minutes on a CPU.

    amtml run --config=digits --workdir=runs/digits

`:labels=10` leaves the student 10 labelled images a class, while the teachers
keep the whole training split; `:method=alone` trains it without teachers.
"""

from ml_collections import ConfigDict

from amtml_jax.defaults import arguments, defaults


def get_config(text: str = "") -> ConfigDict:
  """The run; `text` is what follows the colon of --config."""
  args = arguments(text, labels=0, method="amtml")
  c = defaults()
  c.method = args["method"]
  c.student = "resnet8_slim"
  c.teachers = ("resnet8", "resnet14", "cnn")
  c.data.source = "digits"
  c.data.pad = 1
  c.data.flip = False
  c.data.labels_per_class = args["labels"]
  c.teacher.epochs, c.epochs = 20, 45
  c.teacher.batch_size = c.batch_size = 64
  for optimizer in (c.optimizer, c.teacher.optimizer):
    optimizer.schedule = "cosine"
    optimizer.warmup_epochs = 2
  if args["labels"]:
    # Epochs of two steps each, and many of them.
    c.batch_size, c.epochs = 50, 200
    c.optimizer.warmup_epochs = 10
    c.evaluate_every, c.checkpoint_every = 20, 100
  return c
