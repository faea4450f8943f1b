/* core/load/dsdt.asl: the fixed devices of the board. The numbers are those of core/platform.h (a unit test compares
 * them). There is no PCI root and no processor object: nothing on this board needs one.
 * Compiled at build time; acpi.c replaces the compiler's id and version in the header, so that the table a guest sees
 * does not depend on which compiler built us. */
DefinitionBlock ("dsdt.aml", "DSDT", 2, "HYPRWD", "HYPRWIND", 1)
{
    Name (\_S5, Package () { 5, 5, 0, 0 })

    Scope (\_SB)
    {
        Device (MBRD)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0020, 0x0020, 1, 2)     // 8259 pair
                IO (Decode16, 0x00A0, 0x00A0, 1, 2)
                IO (Decode16, 0x04D0, 0x04D0, 1, 2)     // edge/level control
                IO (Decode16, 0x0040, 0x0040, 1, 4)     // 8254
                IO (Decode16, 0x0061, 0x0061, 1, 1)     // speaker gate
                IO (Decode16, 0x0080, 0x0080, 1, 1)     // POST code
                IO (Decode16, 0x0092, 0x0092, 1, 1)     // fast A20 and reset
                IO (Decode16, 0x00E9, 0x00E9, 1, 1)     // debug console
                IO (Decode16, 0x00F4, 0x00F4, 1, 4)     // debug exit
                IO (Decode16, 0x0510, 0x0510, 1, 2)     // fw_cfg
                IO (Decode16, 0x0600, 0x0600, 1, 12)    // PM1a, PM timer
            })
        }

        Device (RTC0)
        {
            Name (_HID, EisaId ("PNP0B00"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0070, 0x0070, 1, 2)
                IRQNoFlags () {8}
            })
        }

        Device (KBD0)
        {
            Name (_HID, EisaId ("PNP0303"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0060, 0x0060, 1, 1)
                IO (Decode16, 0x0064, 0x0064, 1, 1)
                IRQNoFlags () {1}
            })
        }

        Device (MOU0)
        {
            Name (_HID, EisaId ("PNP0F13"))
            Name (_CRS, ResourceTemplate ()
            {
                IRQNoFlags () {12}
            })
        }

        Device (COM1)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x03F8, 0x03F8, 1, 8)
                IRQNoFlags () {4}
            })
        }

        Device (COM2)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 1)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x02F8, 0x02F8, 1, 8)
                IRQNoFlags () {3}
            })
        }

        Device (COM3)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 2)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x03E8, 0x03E8, 1, 8)
                IRQNoFlags () {4}
            })
        }

        Device (COM4)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 3)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x02E8, 0x02E8, 1, 8)
                IRQNoFlags () {3}
            })
        }
    }
}
