"""Every key a config may hold, with the paper's value (SPEC: section 4).

A config file starts from `defaults()` and changes what differs. `None` means
"as `method` says" (methods.py; the comment gives the paper's value, which is
what a method means that says nothing); a value of your own wins.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def optimizer() -> ConfigDict:
  """SGD as the paper trains with; learning rates are per global batch."""
  return ConfigDict(
    dict(
      learning_rate=0.1,  # > 0
      momentum=0.9,  # [0, 1)
      nesterov=False,
      weight_decay=5e-4,  # >= 0; convolution and dense kernels only
      decay_all=placeholder(bool),  # False; True: all the student's parameters
      schedule="step",  # step | cosine | constant
      milestones=(0.5, 0.75),  # shares of the epochs, for step
      decay=0.1,  # factor at each milestone
      warmup_epochs=0,  # linear, from 0
      clip_norm=0.0,  # global norm of the gradient; 0: no clipping
      ema=0.0,  # decay of the student's moving average; 0: none
    )
  )


def defaults() -> ConfigDict:
  """The paper's configuration on CIFAR-10."""
  return ConfigDict(
    dict(
      seed=0,  # initialisation and data order of the student
      # K > 1: K students, of the seeds seed to seed + K - 1, train in one
      # program; with teachers, on the data.views that these were heard on.
      seeds=1,
      # P > 1: P students of one architecture learn from each other (DML), on
      # the same pictures; the figures are their mean. None: as the method says.
      peers=placeholder(int),
      method="amtml",  # one of methods.METHODS
      student="resnet20",  # a network of `amtml list`, or label=network
      # Order gives the teachers' indices. label=network where two are alike.
      teachers=("resnet32", "resnet56", "resnet110"),
      ensemble="",  # folder of an ensemble made elsewhere; "": the workdir's
      epochs=200,
      batch_size=128,  # global: over all devices
      dtype="float32",  # of the networks; losses and parameters >= float32
      # 0: as the network starts. > 0: convolutions from N(0, std²), batch
      # norms' scales from N(1, std²), dense layers as they are.
      student_init_std=placeholder(float),
      kd=dict(
        temperature=5.0,  # τ > 0
        ratio=0.7,  # λ in [0, 1]: (1-λ) cross-entropy + λ τ² KL
        per_class=placeholder(bool),  # False; True: KL divided by classes
      ),
      # Named weights; 0: the term is not built. cross_entropy and kd follow
      # kd.ratio, angle is α, hint is β.
      terms=dict(
        cross_entropy=placeholder(float),
        kd=placeholder(float),
        angle=placeholder(float),
        hint=placeholder(float),
        distance=placeholder(float),
        attention=placeholder(float),
        mixture=placeholder(float),
        mutual=placeholder(float),
      ),
      # A term's own settings stand under its name.
      cross_entropy=dict(
        softened=placeholder(bool),  # False; True: at temperature τ
      ),
      # log_student: False; True: the student's log-probabilities are compared
      # with the target's probabilities.
      angle=dict(delta=1.0, log_student=placeholder(bool)),
      distance=dict(delta=1.0, log_student=placeholder(bool)),
      hint=dict(
        # better_high; better_low | random | middle or last for all teachers |
        # a stage a teacher: "3,1,2"
        mapping=placeholder(str),
        teacher_stage=placeholder(str),  # last; middle | a stage: "2"
        seed=0,  # of mapping = random, and of untrained regressors
        normalize=placeholder(bool),  # False; True: L2 along channels
        weighted=placeholder(bool),  # False; True: by the teachers' weights
        train_regressors=placeholder(bool),  # True; False: U(±0.005) for good
      ),
      adapter=dict(
        name=placeholder(str),  # an adapter of `amtml list`
        learning_rate=placeholder(float),  # 0.01, constant; no weight decay
        schedule=placeholder(str),  # joint; two_stage
        index=placeholder(int),  # of name=single; None: the best teacher
        l2=placeholder(float),  # 0; μ of μ(‖v‖² + Σ‖θ‖²)
        hidden=32,  # units of name=gate and log_gate
        evidence_temperature=1.0,  # of the probabilities that name=gate sees
        # 0.1: θ ~ N(0, init_scale²); the scores of both gates likewise
        init_scale=placeholder(float),
        v_init_scale=placeholder(float),  # 0: v = 1/√d; > 0: v ~ N(0, that²)
        pooling=placeholder(str),  # max; average: of the map, to β
        stop_gradient_representation=placeholder(bool),  # False
      ),
      teacher=dict(
        seed=0,  # teachers do not change with the student's seed
        epochs=200,
        batch_size=128,
        optimizer=optimizer(),
      ),
      optimizer=optimizer(),
      data=dict(
        source="tfds",  # digits | idx | npy | npz | tfds | a module of yours
        name="cifar10",  # of a TFDS set
        folder="",  # where it lies; "": the source's own place
        image_size=0,  # > 0: centre crop to a square, resize to this size
        validation=0.1,  # share of training, held out; stratified
        split_seed=0,
        labels_per_class=0,  # > 0: so few training images for the student
        train_size=0,  # > 0: a stratified part, for teachers and student
        pad=4,  # random crop after zero padding by so many pixels
        flip=True,
        resident_mb=4096,  # a larger split streams, where its source can
        # K > 0: an image has K augmented views, epoch e shows view e mod K, and
        # what the teachers say of them is computed once and kept. 0: another
        # view in every epoch.
        views=0,
        view_seed=0,
        outputs="",  # folder for what is kept; "": beside the teachers
      ),
      evaluate_every=1,  # epochs; validation, and a line in metrics.jsonl
      checkpoint_every=1,  # epochs
      checkpoint_steps=0,  # and at every so many steps; 0: not by steps
      checkpoint_minutes=10.0,  # and by the clock; 0: not by the clock
      keep=2,  # newest checkpoints kept, beside the best
      full_disk="stop",  # stop | go_on (not with several processes)
      deterministic=True,  # on GPUs: the same bits in every run, some slower
      parallel="pmap",  # pmap | jit: how the step is spread over devices
      devices=0,  # of every process; 0: all
      steps_per_dispatch=0,  # 0: by the backend, see feed.py
    )
  )


def arguments(text: str, **known: int | float | str) -> dict:
  """What follows the colon of --config: `labels=10,method=alone`.

  Args:
    text: `key=value` pairs with commas between them; may be empty.
    **known: the keys, with their defaults; a value has its default's type.
  """
  values = dict(known)
  for pair in filter(None, text.split(",")):
    key, _, value = pair.partition("=")
    if key not in known:
      raise ValueError(f"no argument {key!r}; known: {', '.join(known)}")
    kind = type(known[key])
    try:
      values[key] = kind(value)
    except ValueError:
      raise ValueError(
        f"the argument {pair} of --config needs a value of type {kind.__name__}"
      ) from None
  return values
