#!/usr/bin/env bash
# Makes the users of users.sql in ClickHouse, each with the password that the environment has for it: spend_sink has
# PASSWORD_OF_SINK. Who is there already gets it, too. A user without one stops it before anything is made.
set -euo pipefail

sql=$(<"$1")
again=
unmarked="IDENTIFIED WITH sha256_password BY 'CHANGE-ME'"
for user in $(sed -nE 's/^CREATE USER IF NOT EXISTS spend_([a-z]+) .*/\1/p' "$1"); do
  name=PASSWORD_OF_${user^^}
  password=${!name:?}
  # In a text of SQL these two would end it, or begin an escape.
  password=${password//\\/\\\\}
  password=${password//\'/\\\'}
  marked="CREATE USER IF NOT EXISTS spend_$user $unmarked"
  sql=${sql/"$marked"/"${marked/CHANGE-ME/"$password"}"}
  again+="ALTER USER spend_$user ${unmarked/CHANGE-ME/"$password"};"$'\n'
done
[[ $sql != *"$unmarked"* ]] || { echo "$1 makes a user in a way that is not understood here" >&2; exit 1; }
clickhouse-client --host "$CLICKHOUSE_HOST" --user default --password "$CLICKHOUSE_PASSWORD" --multiquery <<<"$sql"$'\n'"$again"
