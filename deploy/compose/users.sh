#!/usr/bin/env bash
# Makes ClickHouse's users of users.sql, each with the password that the environment has for it (PASSWORD_OF_SINK …).
set -euo pipefail

sql=$(<"$1")
for user in migrate sink reconcile query console views; do
  name=PASSWORD_OF_${user^^}
  password=${!name:?}
  # In a text of SQL these two would end it, or begin an escape.
  password=${password//\\/\\\\}
  password=${password//\'/\\\'}
  marked="CREATE USER IF NOT EXISTS spend_$user IDENTIFIED WITH sha256_password BY 'CHANGE-ME'"
  [[ $sql == *"$marked"* ]] || { echo "users.sql has no user spend_$user with CHANGE-ME" >&2; exit 1; }
  sql=${sql/"$marked"/"${marked/CHANGE-ME/"$password"}"}
done
clickhouse-client --host "$CLICKHOUSE_HOST" --user default --password "$CLICKHOUSE_PASSWORD" --multiquery <<<"$sql"
