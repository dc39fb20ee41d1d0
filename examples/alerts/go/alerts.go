// Print each of spendmeter's alerts once. The settings are spendmeter's own.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

type alert struct {
	ID      string `json:"alert_id"`
	Kind    string
	Message string
}

func main() {
	prefix := os.Getenv("SPENDMETER_TOPIC_PREFIX")
	servers := strings.Split(cmp.Or(os.Getenv("SPENDMETER_KAFKA_BOOTSTRAP"), "127.0.0.1:9092"), ",")
	client, err := kgo.NewClient(kgo.SeedBrokers(servers...), kgo.ConsumerGroup(prefix+"my-alerts"),
		kgo.ConsumeTopics(prefix+"spend.alerts"), kgo.DisableAutoCommit())
	if err != nil {
		log.Fatal(err)
	}
	var seen []string
	for {
		fetches := client.PollFetches(context.Background())
		fetches.EachError(func(_ string, _ int32, err error) { log.Print(err) })
		fetches.EachRecord(func(record *kgo.Record) {
			var found alert
			if len(record.Value) == 0 || !slices.ContainsFunc(record.Headers, isAlert) {
				return
			}
			if err := json.Unmarshal(record.Value, &found); err != nil {
				log.Printf("offset %d is no JSON", record.Offset)
				return
			}
			if !slices.Contains(seen, found.ID) {
				fmt.Println(found.ID, found.Kind, found.Message)
				seen = append(seen[max(0, len(seen)-9_999):], found.ID)
			}
		})
		if err := client.CommitUncommittedOffsets(context.Background()); err != nil {
			log.Print(err)
		}
	}
}

func isAlert(header kgo.RecordHeader) bool {
	return header.Key == "ce_type" && string(header.Value) == "dev.spendmeter.alert.v1"
}
