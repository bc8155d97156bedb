#!/bin/sh
# Generates TypeScript from the .proto files beside it; the result is committed. Needs protoc (Debian: protobuf-compiler).
set -eu
case "${1-}" in
'') ;;
--help)
  echo "usage: npm run gen: TypeScript from common/*/proto/*.proto, into gen/ beside each"
  exit 0
  ;;
*)
  echo "npm run gen: takes no \"$1\" (see --help)" >&2
  exit 2
  ;;
esac
cd "$(dirname "$0")/.."
for dir in common/*/proto; do
  out="$(dirname "$dir")/gen"
  rm -rf "$out" && mkdir -p "$out"
  protoc -I "$dir" -I /usr/include --es_out "$out" --plugin=protoc-gen-es=node_modules/.bin/protoc-gen-es \
    --es_opt target=ts,import_extension=ts,erasable_syntax=true "$dir"/*.proto
done
