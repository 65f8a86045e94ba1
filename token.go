package keystile
