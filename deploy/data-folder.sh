#!/bin/sh
# data-folder.sh FOLDER: makes FOLDER writable for user 1000, as which all containers of mergeboard run. Changes the owner
# of a folder that Docker created as root; does not change folders of other users.
set -eu
folder=$1
may_write() { setpriv --reuid=1000 --regid=1000 --clear-groups test -w "$folder"; }
if [ "$(stat -c %u "$folder")" = 0 ] && ! may_write; then
  chown 1000:1000 "$folder" || true
fi
may_write || {
  echo "mergeboard: user 1000 cannot write the folder behind MERGEBOARD_DATA (owner $(stat -c %u:%g "$folder"), mode $(stat -c %a "$folder")); on the machine that holds it run: sudo chown 1000:1000 FOLDER" >&2
  exit 1
}
