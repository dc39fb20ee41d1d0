"""The watcher: checks that search history on a schedule, and publish what somebody should know as alerts."""
