/* logfmt/events_nofields.h: for an expansion of events.def that looks at the events only, not at their fields.
 * No guard: it is included many times. */
#define F_U8(f, text)
#define F_U16(f, text)
#define F_U64(f, text)
#define F_VAR(f, text)
#define F_DELTA(f, text)
#define F_CLOCK(f, rate, text)
#define F_ENUM(f, names, text)
#define F_FIXED(f, n, text)
#define F_U16S(f, n, text)
#define F_BYTES(f, max, text)
#define F_TEXT(f, max, text)
#define END
