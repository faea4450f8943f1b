# The stub alone, then what puts it on a timeline.
hw_unit_test(gdb_agent hw_gdb)
hw_unit_test(gdb_wire hw_gdb)
hw_unit_test(gdb_stub hw_gdb)
hw_unit_test(gdb_target hw_gdb)
hw_unit_test(gdb_server hw_gdb)
