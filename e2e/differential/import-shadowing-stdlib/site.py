WHO = "shadow"
