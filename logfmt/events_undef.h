/* logfmt/events_undef.h: to be included after each expansion of events.def. No guard: it is included many times. */
#undef EVENT
#undef F_U8
#undef F_U16
#undef F_U64
#undef F_VAR
#undef F_DELTA
#undef F_CLOCK
#undef F_ENUM
#undef F_FIXED
#undef F_U16S
#undef F_BYTES
#undef F_TEXT
#undef END
