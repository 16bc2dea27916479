#!/usr/bin/env bash
# Installs ray_cxr from the wheels of this folder into a new environment, without a network.
#
#   bash install.sh [VENV]      VENV (ray-cxr-venv): a folder that is not there yet; whole or not at all
#
# From the environment: PYTHON (by default the first of python3.x, python3, python that the wheels are for), EXTRAS (by
# default all that are here; EXTRAS= for none). pip's own settings and PYTHONPATH are not looked at.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-ray-cxr-venv}

fail() {
  echo "install.sh: $*" >&2
  exit 2
}

made_for() { sed -n "s/^$1 //p" "$here/MADE-FOR"; }

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

check_folder() {
  local name listed
  [ -e "$here/SHA256SUMS" ] || fail "SHA256SUMS is missing in $here; carry the folder over again, whole"
  while read -r _ name; do
    [ -e "$here/$name" ] || fail "$name is missing in $here; carry the folder over again, whole"
  done <"$here/SHA256SUMS"
  listed=$(cut -c67- "$here/SHA256SUMS")
  # pip would take a wheel of a higher version that somebody put here.
  for name in "$here"/*.whl; do
    name=${name##*/}
    grep -qxF -- "$name" <<<"$listed" || fail "$name is not in SHA256SUMS; remove it from $here"
  done
}

check_sums() {
  local said bad
  command -v sha256sum >/dev/null || fail "no command sha256sum, which tells whether a file is damaged"
  if ! said=$(cd "$here" && LC_ALL=C sha256sum --check --strict SHA256SUMS 2>/dev/null); then
    bad=$(sed -n 's/: FAILED.*//p' <<<"$said" | paste -sd ' ')
    fail "damaged, by its SHA-256: ${bad:-SHA256SUMS}; carry the folder over again"
  fi
}

find_python() { # sets python
  local wanted name
  wanted=$(made_for python)
  for name in ${PYTHON:-"python$wanted" python3 python}; do
    if [ "$(version_of "$name")" = "$wanted" ]; then
      python=$name
      return
    fi
  done
  name=${PYTHON:-python3}
  fail "PYTHON: $name is Python $(version_of "$name" || echo "of no known version"), and the wheels are for Python $wanted;" \
    "give that, as in: PYTHON=/path/to/python$wanted bash $0, or make a wheelhouse with the other"
}

check_machine() {
  local strangers
  # pip's own judgement, which knows of C libraries and ABIs; the first four are enough to see what is wrong.
  strangers=$("$python" -I - "$here" <<'END'
import sys
from pathlib import Path

wheels = sorted(Path(sys.argv[1]).glob("*.whl"))
sys.path.insert(0, str(next(w for w in wheels if w.name.startswith("pip-"))))
from pip._vendor.packaging.tags import sys_tags
from pip._vendor.packaging.utils import parse_wheel_filename

mine = set(sys_tags())
print(*[w.name for w in wheels if mine.isdisjoint(parse_wheel_filename(w.name)[3])][:4])
END
  ) || fail "the machine cannot be held against the wheels; see the lines above"
  [ -z "$strangers" ] || fail "the wheels were fetched on $(made_for machine), and this is" \
    "$("$python" -c 'import platform as p; print(p.system(), p.machine(), *p.libc_ver())'), where these cannot run:" \
    "$strangers; make a wheelhouse on a machine like this one"
}

check_extras() { # sets extras
  local extra
  extras=${EXTRAS-$(made_for extras)}
  for extra in ${extras//,/ }; do
    case ",$(made_for extras)," in
      *",$extra,"*) ;;
      *) fail "EXTRAS: no wheels for $extra here; there are those of: $(made_for extras)" ;;
    esac
  done
}

# shellcheck disable=SC2317,SC2329  # the trap calls it
clear_away() { rm -rf "$venv"; }

install() {
  local pips=("$here"/pip-*.whl)
  trap clear_away EXIT
  "$python" -I -m venv --without-pip "$venv" || fail "$python -m venv failed; see the lines above"
  # No pip is needed to begin with: that of this folder runs from its wheel.
  "$venv/bin/python" -I "${pips[0]}/pip" --isolated install --quiet --no-index --find-links "$here" pip \
    || fail "pip could not be installed from ${pips[0]}; see the lines above"
  "$venv/bin/python" -I -m pip --isolated install --no-index --find-links "$here" --only-binary :all: \
    "ray_cxr${extras:+[$extras]}" \
    || fail "pip could not install all of it (the lines above say why); $venv is removed again"
  trap - EXIT
}

check_folder
find_python
check_extras
[ ! -e "$venv" ] || fail "$venv is there already; give another folder, as in: bash $0 VENV, or remove it"
check_sums
check_machine
# pip reads no settings of this machine: what is installed comes from here.
export PIP_CONFIG_FILE=/dev/null
install
echo "ray_cxr $(made_for ray_cxr) is in $venv; next: . $venv/bin/activate && ray-cxr doctor"
