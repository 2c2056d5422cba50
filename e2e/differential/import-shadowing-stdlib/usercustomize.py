print("a usercustomize of the job directory must not run")
