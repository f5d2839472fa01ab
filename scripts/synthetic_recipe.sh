# SPDX-License-Identifier: Apache-2.0
# The recipe of docs/synthetic.md, for demo_synthetic.sh and synthetic_table.sh: problems, trainings, thresholds. Sourced
# from the repository's root, after lib.sh. What has ended is not done again, what was interrupted goes on.

gateskip="${GATESKIP_BINARY:-build/release/apps/gateskip}"

# recipe TASK WORK: sets what the functions below use.
recipe() {
  task="$1"
  work="$2"
  case "$task" in
    addition) length=42 dense_steps=140 gated_steps=160 ;;
    mixed) length=80 dense_steps=140 gated_steps=100 ;;
    sorting | lookup) length=60 dense_steps=140 gated_steps=160 ;;
    *)
      echo "[command line] TASK: expected addition, sorting, lookup or mixed, found '$task'" >&2
      return 2
      ;;
  esac
  mkdir -p "$work"
}

problems() {
  local split file examples
  for split in train test; do
    file="$work/${task}_$split.jsonl"
    [[ -f "$file" ]] && continue
    examples=20000
    [[ "$split" == test ]] && examples=500
    "$gateskip" data --synthetic "$task" --split "$split" --examples "$examples" --seed 1 -o "$file"
  done
}

# train NAME BASE OPTIONS: one run into $work/NAME, its model beside it.
train() {
  local name="$1" from="$2"
  shift 2
  [[ -f "$work/$name/adapter/adapter_config.json" ]] && return  # written last
  mkdir -p "$(dirname "$work/$name")"
  "$gateskip" train -m "$from" -f "$work/${task}_train.jsonl" --pair-format raw --packing none \
    --sequence-length "$length" --batch 24 --warmup 10 --train-base 'blk\..*' --base-lr 3e-4 --lora-rank 0 \
    --kl-weight 0 --ce-weight 1 --loss-positions 1 --run "$work/$name" --resume --adapter "$work/$name/adapter" \
    --trained-model "$work/$name.gguf" "$@"
}

# The model learns the task; every second training starts from it.
train_dense() {
  train dense "${GATESKIP_MODELS:-models}/SmolLM2-135M-Instruct.Q4_1.gguf" --steps "$dense_steps" --dense-every 1 \
    --skip-rank -1 --no-prior --gate-lr 0 --gate-bias-lr 0
}

# second NAME OPTIONS: a second training on the same problems in the same order, for as many tokens.
second() {
  train "$1" "$work/dense.gguf" --steps "$gated_steps" --fit-sequences 48 --essential-rise 1e9 --prior-sequences 12 \
    --prior-step 0.1 --prior-candidates 8 "${@:2}"
}

every_budget=(--min-budget 0.05 --max-budget 0.55 --dense-every 8)

train_gated() { second "$1" --skip-rank 0 "${every_budget[@]}" --noise 0.5 "${@:2}"; }

# thresholds NAME BUDGETS: on training problems, each in a window of its own. Windows of problems laid end to end would
# set them on another kind of text.
thresholds() {
  "$gateskip" calibrate -m "$work/$1.gguf" --adapter "$work/$1/adapter" -f "$work/${task}_train.jsonl" \
    --windows documents --pair-format raw -c 128 --tokens 4096 --budgets "$2"
}
