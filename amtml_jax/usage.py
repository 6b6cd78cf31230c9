"""What `amtml help` says."""

USAGE = """\
amtml COMMAND [flags]

  run       teach the teachers that are missing, distil, evaluate, report
  teach     train the teachers alone
  distill   train the student under teachers that are there
  evaluate  evaluate a finished run again
  sweep     every cell of an experiment, or one: a table of the paper
  report    a sweep's tables and figures: Markdown, CSV, one HTML page
  bench     measure the terms, the step and the command, on random images
  prepare   build a TFDS data set without TensorFlow: amtml prepare cifar10
  list      every model, adapter, term, data source, config and experiment

run, teach, distill and evaluate take
  --config=FILE[:ARGUMENTS]   a config file, or the name of one in configs/
  --config.KEY=VALUE          any value of it
  --workdir=FOLDER            where everything is written
  --profile                   trace some steps into FOLDER/profile
and, one process of several, where no cluster's environment tells it,
  --coordinator=HOST:PORT --num_processes=N --process_id=I

sweep takes those, but --profile, and
  --experiment=FILE[:ARGUMENTS]  a file, or the name of one in experiments/; its
                              own config is the one to change
  --index=I                   one program alone, a cell or all seeds of a
                              run: $SLURM_ARRAY_TASK_ID
  --seeds=5,6,7               instead of the experiment's own

report takes a folder first, a sweep's workdir or a copy of its results/, and
  --experiment=FILE           where the experiment's file has moved

bench takes --config and its values, --workdir, --profile, and
  --output=FILE               the figures (default: WORKDIR/bench.json)
  --classes=10 --image=32x32x3  of the random images
  --rounds=5                  of all that is measured, in turn
  --only=step,angle           some of it

prepare takes
  --folder=FOLDER             where to put it (default: TFDS's own)
  --manual_dir=FOLDER         where its archives lie, instead of the network
"""
