import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.Properties;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowBytesStoreSupplier;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The job in Kafka Streams' own terms: windowed totals per key, changelogged, coalesced by its cache
 * and published once per commit; exactly-once v2, one thread.
 *
 * Arguments: bootstrap servers, source topic, result topic, application id, state directory, store
 * (rocksdb or memory).
 */
public final class HourlyTotals {
    private static final Duration WINDOW = Duration.ofHours(1);
    private static final Duration GRACE = Duration.ofHours(24);

    private record Usage(long occurredMs, long costNanousd) {}

    public static void main(String[] args) {
        StreamsBuilder builder = new StreamsBuilder();
        Serde<Usage> usage = Serdes.serdeFrom(neverWritten(), new UsageReader());
        builder.stream(
                        args[1],
                        Consumed.with(Serdes.String(), usage)
                                // By what the event says, as the others count it: the record's own time is the broker's.
                                .withTimestampExtractor((record, previous) -> ((Usage) record.value()).occurredMs()))
                .groupByKey(Grouped.with(Serdes.String(), usage))
                .windowedBy(TimeWindows.ofSizeAndGrace(WINDOW, GRACE))
                .aggregate(
                        () -> 0L,
                        (key, event, total) -> total + event.costNanousd(),
                        store(args[5].equals("memory")))
                .toStream()
                .map((window, total) -> KeyValue.pair(window.key() + "|" + window.window().start(), total.toString()))
                .to(args[2], Produced.with(Serdes.String(), Serdes.String()));
        KafkaStreams streams = new KafkaStreams(builder.build(), settings(args));
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.RUNNING) {
                System.out.println("bench: ready");
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
        streams.start();
    }

    private static Materialized<String, Long, WindowStore<Bytes, byte[]>> store(boolean inMemory) {
        Duration kept = WINDOW.plus(GRACE);
        WindowBytesStoreSupplier supplier =
                inMemory
                        ? Stores.inMemoryWindowStore("totals", kept, WINDOW, false)
                        : Stores.persistentTimestampedWindowStore("totals", kept, WINDOW, false);
        return Materialized.<String, Long>as(supplier)
                .withKeySerde(Serdes.String())
                .withValueSerde(Serdes.Long())
                .withCachingEnabled();
    }

    private static Properties settings(String[] args) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[3]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        settings.put(StreamsConfig.producerPrefix("compression.type"), "lz4");
        return settings;
    }

    private static Serializer<Usage> neverWritten() {
        return (topic, value) -> {
            throw new UnsupportedOperationException("usage events are only read");
        };
    }

    /** Reads the whole document once, token by token, and keeps the two fields that the job needs. */
    private static final class UsageReader implements Deserializer<Usage> {
        private static final JsonFactory JSON = new JsonFactory();

        @Override
        public Usage deserialize(String topic, byte[] value) {
            long occurredMs = -1;
            long cost = -1;
            try (JsonParser parser = JSON.createParser(value)) {
                parser.nextToken();
                while (parser.nextToken() == JsonToken.FIELD_NAME) {
                    String name = parser.currentName();
                    parser.nextToken();
                    switch (name) {
                        case "occurred_at" -> occurredMs = Instant.parse(parser.getText()).toEpochMilli();
                        case "cost_nanousd" -> cost = parser.getLongValue();
                        default -> parser.skipChildren();
                    }
                }
            } catch (IOException unreadable) {
                throw new UncheckedIOException(unreadable);
            }
            if (occurredMs < 0 || cost < 0) {
                throw new IllegalArgumentException(
                        "no usage event: " + new String(value, StandardCharsets.UTF_8));
            }
            return new Usage(occurredMs, cost);
        }
    }
}
