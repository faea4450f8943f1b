hw_unit_test(session hw_replay)
