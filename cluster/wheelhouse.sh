#!/usr/bin/env bash
# Fetches ray_cxr and all that it needs, as wheels, into a folder for machines without a network.
#
#   cluster/wheelhouse.sh [FOLDER]       FOLDER (wheelhouse): made anew, whole or not at all
#   bash FOLDER/install.sh [VENV]        there: checks it, and installs it into a new environment
#
# The wheels are of the versions in constraints.txt, from the index that pip is set to, for the Python and the kind of
# machine that this runs on. FOLDER has a list of SHA-256 sums, whose own sum is printed at the end.
#
# From the environment: PYTHON (python3), EXTRAS (weights,s3,tensorboard,mlflow; EXTRAS= for none).
set -euo pipefail

PYTHON=${PYTHON:-python3}
EXTRAS=${EXTRAS-weights,s3,tensorboard,mlflow}
source=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-wheelhouse}
folder=${folder%/}
part=$folder.part # beside it, so that moving it costs nothing

fail() {
  echo "wheelhouse.sh: $*" >&2
  exit 2
}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
  || fail "PYTHON: $PYTHON is not Python 3.11 or later; give one, as in: PYTHON=/path/to/python3.11"
known=$("$PYTHON" - "$source/pyproject.toml" <<'END'
import sys, tomllib
print(*tomllib.load(open(sys.argv[1], "rb"))["project"]["optional-dependencies"])
END
)
for extra in ${EXTRAS//,/ }; do
  case " $known " in
    *" $extra "*) ;;
    *) fail "EXTRAS: ray_cxr has no extra $extra; it has ${known// /, }" ;;
  esac
done
if [ -e "$folder" ] && [ ! -e "$folder/SHA256SUMS" ] && [ -n "$(ls -A "$folder")" ]; then
  fail "$folder holds something else than a wheelhouse; give the name of another folder"
fi

# shellcheck disable=SC2317,SC2329  # the trap calls it
finish() { rm -rf "$part"; }
trap finish EXIT
finish
mkdir -p "$part"
# A pip of its own: that of the machine may be too old, or not to be had.
"$PYTHON" -m venv "$part/venv" \
  || fail "$PYTHON -m venv failed; on Debian and Ubuntu install the package python3-venv"
"$part/venv/bin/python" -m pip install --quiet --upgrade pip
"$part/venv/bin/python" -m pip wheel --wheel-dir "$part" --constraint "$source/constraints.txt" \
  "$source${EXTRAS:+[$EXTRAS]}" pip
rm -rf "$part/venv"

cp "$source/cluster/wheelhouse-install.sh" "$part/install.sh"
cp "$source/LICENSE" "$part/"
wheels=("$part"/*.whl)
own=("$part"/ray_cxr-*.whl)
version=$(basename "${own[0]}" | cut -d- -f2)
machine=$("$PYTHON" -c 'import platform as p; print(p.system(), p.machine(), *p.libc_ver())')
python=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
cat >"$part/MADE-FOR" <<END
ray_cxr $version
python $python
machine $machine
extras $EXTRAS
END
cat >"$part/INSTALL.txt" <<END
ray_cxr $version and all that it needs, for Python $python, made on $machine.
Nothing here needs a network. On the machine that it is for:

    bash install.sh VENV              # VENV: a folder that is not there yet
    . VENV/bin/activate
    ray-cxr doctor
    ray-cxr demo

install.sh holds every file against SHA256SUMS first. Whether that list is the one that was made tells its own sum:

    sha256sum SHA256SUMS

which the machine that made it printed at the end, and which should come by another way than this folder.

    EXTRAS=weights bash install.sh VENV                     # fewer extras than ${EXTRAS:-none}
    PYTHON=/path/to/python$python bash install.sh VENV      # another Python $python
END
(
  cd "$part"
  files=(*)
  sha256sum -- "${files[@]}" >SHA256SUMS
)
rm -rf "$folder"
mv "$part" "$folder"
echo "$folder: ${#wheels[@]} wheels, $(du -sh "$folder" | cut -f1), for Python $python on $machine, with the extras ${EXTRAS:-none}"
echo "SHA-256 of $folder/SHA256SUMS: $(sha256sum "$folder/SHA256SUMS" | cut -d' ' -f1)"
echo "to install from it: bash $folder/install.sh VENV"
