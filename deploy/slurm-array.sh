#!/bin/bash
# A set scored by an array of jobs, and one more job that completes the run:
#
#   score=$(sbatch --parsable --array=1-16 deploy/slurm-array.sh gen.parquet real/ /shared/run)
#   sbatch --dependency=afterok:"$score" deploy/slurm-array.sh gen.parquet real/ /shared/run
#
# The folder of the run lies on storage that all nodes share, the store of embeddings on the node. A
# job that was lost is submitted again with the same number; parts that are there are not scored again.
#SBATCH --job-name=cas
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --requeue
set -euo pipefail

gen=$1 real=$2 run=$3
share=()
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
  share=(--shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT")
fi
code=0
cas score "$gen" "$real" --out "$run" --engine parts "${share[@]}" \
  --cache "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/cas-cache" --offline || code=$?
# 3: done, but images of the share cannot be read. The job that completes the run tells which.
if [ ${#share[@]} -gt 0 ] && [ "$code" -eq 3 ]; then code=0; fi
exit "$code"
