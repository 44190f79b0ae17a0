#!/bin/bash
# Prepares what the server writes, as the entry points of published images do, and becomes the server.
set -euo pipefail
umask 027
export WLP_OUTPUT_DIR=/data/output LOG_DIR=/data/logs
mkdir -p "$WLP_OUTPUT_DIR" "$LOG_DIR"
if [ ! -e /data/fhirDB/service.properties ]; then
  echo "copying the database"
  cp -r /opt/fhir/fhirDB /data/fhirDB
fi
# shellcheck disable=SC2002  # the published image's entry point calls cat in pipes too
memory=$(cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null | tr -d '\n' || true)
echo "memory limit: ${memory:-none}"
if [ ! -e /data/output/bootstrap.properties ]; then
  secret=$(head -c 18 /dev/urandom | base64 | tr -d '/+=')
  sed "s|@PASSWORD@|$secret|" /opt/fhir/bootstrap.template >/data/output/bootstrap.properties
fi
keystore_password=$(grep '^keystore_password=' /data/output/bootstrap.properties | sed 's/^[^=]*=//')
export keystore_password
exec /opt/ol/wlp/bin/server run fhir
