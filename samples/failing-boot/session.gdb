# What somebody types who wants to know why this kernel panicked; README.md says what it shows.
# The guest stands at its end: the kernel has reset the machine. There is no debug package; names come from its memory.

# Back to the panic. What did it say, and who called?
break panic
reverse-continue
backtrace
x/s $rdi
x/s $rsi

# Device 0:0 is no device. Who put that into ROOT_DEV?
last-write *(int *)&ROOT_DEV
print $icount
x/i $pc
print $eax

# It is what name_to_dev_t() had returned. What was it asked?
break name_to_dev_t
reverse-continue
print $icount
backtrace
x/s $rdi

# On the way ahead again: the block layer is asked for the name without /dev/, and knows none.
break blk_lookup_devt
continue
print $icount
x/s $rdi
finish
print $eax

# Where did the name come from? Back to name_to_dev_t(), which has it in a register, and to who wrote the string.
reverse-continue
reverse-continue
last-write *(char *)$rdi
print $icount
backtrace

# And was there ever a disk, of any name? From the end back to the beginning: this is never called.
seek end
delete
break device_add_disk
reverse-continue
print $icount
