hw_unit_test(mem hw_core)
