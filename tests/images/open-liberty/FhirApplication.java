import javax.ws.rs.ApplicationPath;
import javax.ws.rs.core.Application;

/** Everything is below the context root. */
@ApplicationPath("/")
public class FhirApplication extends Application {}
