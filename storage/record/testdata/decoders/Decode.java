// Prints what protobuf-java reads in RecordBatch files, as JSON.
//
// Usage: java -cp protobuf-java.jar Decode.java DESCRIPTOR_SET FILE...
// DESCRIPTOR_SET is a serialized google.protobuf.FileDescriptorSet.

import com.google.protobuf.ByteString;
import com.google.protobuf.DescriptorProtos.FileDescriptorProto;
import com.google.protobuf.DescriptorProtos.FileDescriptorSet;
import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.EnumValueDescriptor;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Descriptors.FileDescriptor;
import com.google.protobuf.DynamicMessage;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.List;
import java.util.StringJoiner;

public class Decode {
    public static void main(String[] args) throws Exception {
        FileDescriptorProto file =
                FileDescriptorSet.parseFrom(Files.readAllBytes(Path.of(args[0]))).getFile(0);
        Descriptor batch =
                FileDescriptor.buildFrom(file, new FileDescriptor[0]).findMessageTypeByName("RecordBatch");
        StringJoiner out = new StringJoiner(",", "{", "}");
        for (int i = 1; i < args.length; i++) {
            Path path = Path.of(args[i]);
            String content;
            try {
                content = batch(DynamicMessage.parseFrom(batch, Files.readAllBytes(path)));
            } catch (Exception e) {
                content = "{\"error\":\"" + e.getMessage().replaceAll("[\"\\\\\\p{Cntrl}]", " ") + "\"}";
            }
            out.add("\"" + path.getFileName() + "\":" + content);
        }
        System.out.println(out);
    }

    static Object get(DynamicMessage m, String field) {
        return m.getField(m.getDescriptorForType().findFieldByName(field));
    }

    static String hex(ByteString b) {
        return "\"" + HexFormat.of().formatHex(b.toByteArray()) + "\"";
    }

    static String optional(DynamicMessage m, String field) {
        FieldDescriptor f = m.getDescriptorForType().findFieldByName(field);
        return m.hasField(f) ? hex((ByteString) m.getField(f)) : "null";
    }

    @SuppressWarnings("unchecked")
    static List<DynamicMessage> repeated(DynamicMessage m, String field) {
        return (List<DynamicMessage>) get(m, field);
    }

    static String batch(DynamicMessage m) {
        StringJoiner records = new StringJoiner(",", "[", "]");
        for (DynamicMessage r : repeated(m, "records")) {
            StringJoiner headers = new StringJoiner(",", "[", "]");
            for (DynamicMessage h : repeated(r, "headers")) {
                String key = hex(ByteString.copyFromUtf8((String) get(h, "key")));
                headers.add("{\"key\":" + key + ",\"value\":" + optional(h, "value") + "}");
            }
            FieldDescriptor time = r.getDescriptorForType().findFieldByName("timestamp_ms");
            records.add("{\"key\":" + optional(r, "key") + ",\"value\":" + optional(r, "value")
                    + ",\"headers\":" + headers
                    + ",\"timestamp_ms\":" + (r.hasField(time) ? "\"" + r.getField(time) + "\"" : "null") + "}");
        }
        return "{\"compression\":" + ((EnumValueDescriptor) get(m, "compression")).getNumber()
                + ",\"compressed\":" + hex((ByteString) get(m, "compressed"))
                + ",\"record_count\":" + Integer.toUnsignedString((Integer) get(m, "record_count"))
                + ",\"records\":" + records + "}";
    }
}
