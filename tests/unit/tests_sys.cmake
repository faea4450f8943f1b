hw_unit_test(vcpu hw_core)
hw_unit_test(cpuid hw_core)
hw_unit_test(msr hw_exec)
