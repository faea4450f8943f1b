hw_unit_test(fp hw_exec)
