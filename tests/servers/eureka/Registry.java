package registry;

// A Eureka server with nothing beside it, whose settings are its arguments.

import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.cloud.netflix.eureka.server.EnableEurekaServer;

@SpringBootApplication
@EnableEurekaServer
public class Registry {
    public static void main(String[] settings) {
        SpringApplication.run(Registry.class, settings);
    }
}
