// Prints what a JavaScript protobuf library reads in RecordBatch files, as
// JSON.
//
// Usage: decode.cjs LIBRARY DESCRIPTOR_SET PROTO_FILE FILE...
// LIBRARY is protobufjs, which reads PROTO_FILE, or @bufbuild/protobuf, which
// reads DESCRIPTOR_SET, a serialized google.protobuf.FileDescriptorSet.
"use strict";
const fs = require("fs");
const path = require("path");

const [library, descriptorSet, protoFile, ...files] = process.argv.slice(2);

const hex = (b) => Buffer.from(b).toString("hex");

// Each decoder returns a message whose absent optional fields are undefined.
const decoders = {
  protobufjs() {
    const protobuf = require("protobufjs");
    const Batch = protobuf.loadSync(protoFile).lookupType("millstream.v1.RecordBatch");
    const own = (m, f) => (Object.hasOwn(m, f) && m[f] !== null ? m[f] : undefined);
    return (bytes) => {
      const m = Batch.decode(bytes);
      return {
        compression: m.compression, compressed: m.compressed, recordCount: m.recordCount,
        records: m.records.map((r) => ({
          key: own(r, "key"), value: own(r, "value"), timestampMs: own(r, "timestampMs"),
          headers: r.headers.map((h) => ({ key: h.key, value: own(h, "value") })),
        })),
      };
    };
  },
  "@bufbuild/protobuf"() {
    const { createFileRegistry, fromBinary } = require("@bufbuild/protobuf");
    const { FileDescriptorSetSchema } = require("@bufbuild/protobuf/wkt");
    const set = fromBinary(FileDescriptorSetSchema, fs.readFileSync(descriptorSet));
    const batch = createFileRegistry(set).getMessage("millstream.v1.RecordBatch");
    return (bytes) => fromBinary(batch, bytes);
  },
};

const optional = (b) => (b === undefined ? null : hex(b));

function content(m) {
  return {
    compression: m.compression,
    compressed: hex(m.compressed),
    record_count: m.recordCount,
    records: m.records.map((r) => ({
      key: optional(r.key),
      value: optional(r.value),
      headers: r.headers.map((h) => ({ key: hex(Buffer.from(h.key)), value: optional(h.value) })),
      timestamp_ms: r.timestampMs === undefined ? null : r.timestampMs.toString(),
    })),
  };
}

const decode = decoders[library]();
const found = {};
for (const file of files) {
  try {
    found[path.basename(file)] = content(decode(fs.readFileSync(file)));
  } catch (e) {
    found[path.basename(file)] = { error: String(e) };
  }
}
process.stdout.write(JSON.stringify(found));
