// Print each of spendmeter's alerts once. The settings are spendmeter's own.
import kafkajs from "kafkajs";
import { decompressFrame } from "lz4-napi";

const prefix = process.env.SPENDMETER_TOPIC_PREFIX ?? "";
const brokers = (process.env.SPENDMETER_KAFKA_BOOTSTRAP ?? "127.0.0.1:9092").split(",");
const kafka = new kafkajs.Kafka({ clientId: "my-alerts", brokers, logLevel: kafkajs.logLevel.ERROR });
const consumer = kafka.consumer({ groupId: prefix + "my-alerts", readUncommitted: true });
const seen = new Set<string>();
// KafkaJS reads no LZ4 by itself, and that is how the records are compressed.
kafkajs.CompressionCodecs[kafkajs.CompressionTypes.LZ4] = () => ({
  decompress: (batch: Buffer) => decompressFrame(batch),
});

await consumer.connect();
await consumer.subscribe({ topic: prefix + "spend.alerts", fromBeginning: true });
await consumer.run({
  eachMessage: async ({ message }) => {
    if (!message.value || String(message.headers?.ce_type) !== "dev.spendmeter.alert.v1") return;
    let alert: { alert_id: string; kind: string; message: string };
    try {
      alert = JSON.parse(message.value.toString());
    } catch {
      return console.error(`offset ${message.offset} is no JSON`);
    }
    if (!seen.has(alert.alert_id)) console.log(alert.alert_id, alert.kind, alert.message);
    seen.add(alert.alert_id);
    if (seen.size > 10_000) seen.delete(seen.values().next().value!);
  },
});
