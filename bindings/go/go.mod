module wav2small

go 1.19
