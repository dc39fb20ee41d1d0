#!/usr/bin/env bash
# Makes what compose.yaml needs and does not find here: .env with its secrets, people.yaml, alerts.yaml.
# What is there stays as it is; run it again after an upgrade, for settings that are new.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
umask 077

secret_for() {
  case "$1" in
    LITELLM_*_KEY) echo "sk-$(openssl rand -hex 24)" ;;
    # As Kafka's own: 16 bytes in base64 for URLs, 22 characters.
    KAFKA_CLUSTER_ID) echo "k$(openssl rand -base64 32 | tr -dc 'A-Za-z0-9' | cut -c1-20)g" ;;
    *) openssl rand -hex 32 ;;
  esac
}

touch .env
while IFS= read -r line; do
  name=${line%%=*}
  if [[ $line =~ ^[A-Z_]+= ]] && grep -q "^$name=" .env; then continue; fi
  if [[ $line =~ ^[A-Z_]+=$ ]]; then line+=$(secret_for "$name"); fi
  echo "$line"
done <.env.example >.env.new
if [[ -s .env ]]; then
  # Only the settings that .env does not have yet. Its last line may lack an end.
  [[ -z $(tail -c 1 .env) ]] || echo >>.env
  grep -E '^[A-Z_]+=' .env.new >>.env || true
  rm .env.new
else
  mv .env.new .env
fi

if [[ ! -e alerts.yaml ]]; then
  cp alerts.example.yaml alerts.yaml
  # It holds no secret, and its process is nobody in particular.
  chmod 0644 alerts.yaml
fi

if [[ ! -e people.yaml ]]; then
  token="spm-$(openssl rand -hex 32)"
  hash=$(printf %s "$token" | openssl dgst -sha256 -r | cut -d' ' -f1)
  printf "people:\n  - name: 'admin'\n    token_sha256: %s\n    role: editor\n" "$hash" >people.yaml
  chmod 0644 people.yaml
  echo "the token of admin for the page, shown once: $token"
fi
