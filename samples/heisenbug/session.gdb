# What somebody types who looks for the write that damaged the journal; README.md says what it shows.
# The guest stands at its end, where it told that an entry is damaged.

# Which entry, which word? The caller knows.
up
print journal.entry[n]

# Who wrote it last? The watchpoint stops with the write not yet done.
watch -location journal.entry[n].word[i]
reverse-continue
print $icount
backtrace

# What does it overwrite? A heartbeat. Whose is it, and when was it written?
print *e
reverse-continue
print $icount
backtrace
