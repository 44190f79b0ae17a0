import com.ibm.fhir.model.format.Format;
import com.ibm.fhir.model.generator.FHIRGenerator;
import com.ibm.fhir.model.parser.FHIRParser;
import com.ibm.fhir.model.resource.Bundle;
import com.ibm.fhir.model.resource.CapabilityStatement;
import com.ibm.fhir.model.resource.OperationOutcome;
import com.ibm.fhir.model.resource.Patient;
import com.ibm.fhir.model.resource.Resource;
import com.ibm.fhir.model.type.CodeableConcept;
import com.ibm.fhir.model.type.DateTime;
import com.ibm.fhir.model.type.HumanName;
import com.ibm.fhir.model.type.Id;
import com.ibm.fhir.model.type.Instant;
import com.ibm.fhir.model.type.Meta;
import com.ibm.fhir.model.type.UnsignedInt;
import com.ibm.fhir.model.type.Uri;
import com.ibm.fhir.model.type.code.BundleType;
import com.ibm.fhir.model.type.code.CapabilityStatementKind;
import com.ibm.fhir.model.type.code.FHIRVersion;
import com.ibm.fhir.model.type.code.IssueSeverity;
import com.ibm.fhir.model.type.code.IssueType;
import com.ibm.fhir.model.type.code.PublicationStatus;
import com.ibm.fhir.registry.FHIRRegistry;
import java.io.ByteArrayInputStream;
import java.io.StringReader;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import javax.json.Json;
import javax.json.JsonArray;
import javax.naming.InitialContext;
import javax.sql.DataSource;
import javax.transaction.UserTransaction;
import javax.ws.rs.Consumes;
import javax.ws.rs.DELETE;
import javax.ws.rs.DefaultValue;
import javax.ws.rs.GET;
import javax.ws.rs.HeaderParam;
import javax.ws.rs.PATCH;
import javax.ws.rs.POST;
import javax.ws.rs.PUT;
import javax.ws.rs.Path;
import javax.ws.rs.PathParam;
import javax.ws.rs.Produces;
import javax.ws.rs.QueryParam;
import javax.ws.rs.core.Context;
import javax.ws.rs.core.Response;
import javax.ws.rs.core.UriInfo;

/** A small FHIR server: IBM's model parses, checks and writes resources, JDBC keeps every version of them in Derby. */
@Path("/")
@Consumes({"application/fhir+json", "application/fhir+xml", "application/json", "application/json-patch+json"})
@Produces({"application/fhir+json", "application/fhir+xml"})
public class FhirResource {
  private static final String XML = "application/fhir+xml";
  @Context private UriInfo uri;
  @HeaderParam("Accept") private String accept;
  @HeaderParam("Content-Type") private String sent;

  private interface Work<T> {
    T with(Connection connection) throws Exception;
  }

  /** One stored version; body is null when it is a deletion. */
  private static final class Version {
    final int number;
    final String body;

    Version(int number, String body) {
      this.number = number;
      this.body = body;
    }
  }

  private static <T> T transaction(Work<T> work) throws Exception {
    InitialContext names = new InitialContext();
    UserTransaction user = (UserTransaction) names.lookup("java:comp/UserTransaction");
    user.begin();
    try (Connection connection = ((DataSource) names.lookup("jdbc/fhir")).getConnection()) {
      T result = work.with(connection);
      user.commit();
      return result;
    } catch (Exception error) {
      user.rollback();
      throw error;
    }
  }

  @GET
  @Path("metadata")
  public Response metadata() throws Exception {
    CapabilityStatement.Builder statement = CapabilityStatement.builder()
        .status(PublicationStatus.ACTIVE).date(DateTime.now(ZoneOffset.UTC)).kind(CapabilityStatementKind.INSTANCE)
        .fhirVersion(FHIRVersion.VERSION_4_0_1)
        .format(List.of(com.ibm.fhir.model.type.Code.of("json"), com.ibm.fhir.model.type.Code.of("xml")));
    String base = "http://hl7.org/fhir/StructureDefinition/Patient";
    if (FHIRRegistry.getInstance().getResource(base, com.ibm.fhir.model.resource.StructureDefinition.class) != null) {
      statement.instantiates(com.ibm.fhir.model.type.Canonical.of(base));
    }
    return answer(200, statement.build());
  }

  @POST
  @Path("{type}")
  public Response create(@PathParam("type") String type, byte[] body) throws Exception {
    Resource resource = parse(body, Format.JSON);
    if (resource == null || !resource.getClass().getSimpleName().equals(type)) {
      return wrong("no " + type);
    }
    Resource stored = transaction(connection -> store(connection, resource, UUID.randomUUID().toString()));
    return answer(201, stored);
  }

  @POST
  public Response bundle(byte[] body) throws Exception {
    Resource given = parse(body, Format.JSON);
    if (!(given instanceof Bundle)) {
      return wrong("no bundle");
    }
    Bundle bundle = (Bundle) given;
    String text = text(bundle, Format.JSON);
    List<String> ids = new ArrayList<>();
    for (Bundle.Entry entry : bundle.getEntry()) {
      String id = UUID.randomUUID().toString();
      ids.add(id);
      if (entry.getFullUrl() != null) {
        text = text.replace("\"" + entry.getFullUrl().getValue() + "\"",
            "\"" + entry.getResource().getClass().getSimpleName() + "/" + id + "\"");
      }
    }
    Bundle resolved = (Bundle) parse(text.getBytes(StandardCharsets.UTF_8), Format.JSON);
    Bundle.Builder out = Bundle.builder().type(BundleType.TRANSACTION_RESPONSE);
    transaction(connection -> {
      for (int i = 0; i < ids.size(); i++) {
        Resource stored = store(connection, resolved.getEntry().get(i).getResource(), ids.get(i));
        out.entry(Bundle.Entry.builder().response(Bundle.Entry.Response.builder()
            .status(com.ibm.fhir.model.type.String.of("201 Created")).location(Uri.of(location(stored))).build()).build());
      }
      return null;
    });
    return answer(200, out.build());
  }

  @GET
  @Path("{type}/{id}")
  public Response read(@PathParam("type") String type, @PathParam("id") String id) throws Exception {
    return version(transaction(connection -> latest(connection, type, id)));
  }

  @GET
  @Path("{type}/{id}/_history/{version}")
  public Response vread(@PathParam("type") String type, @PathParam("id") String id, @PathParam("version") int version)
      throws Exception {
    List<Version> all = transaction(connection -> versions(connection, type, id));
    return version(all.stream().filter(each -> each.number == version).findFirst().orElse(null));
  }

  @GET
  @Path("{type}/{id}/_history")
  public Response history(@PathParam("type") String type, @PathParam("id") String id) throws Exception {
    List<String> bodies = new ArrayList<>();
    for (Version each : transaction(connection -> versions(connection, type, id))) {
      if (each.body != null) {
        bodies.add(each.body);
      }
    }
    return answer(200, found(BundleType.HISTORY, bodies, bodies.size(), null));
  }

  @PUT
  @Path("{type}/{id}")
  public Response update(@PathParam("type") String type, @PathParam("id") String id, byte[] body) throws Exception {
    Resource resource = parse(body, Format.JSON);
    return resource == null ? wrong("no resource") : answer(200, transaction(connection -> store(connection, resource, id)));
  }

  @PATCH
  @Path("{type}/{id}")
  public Response patch(@PathParam("type") String type, @PathParam("id") String id, String body) throws Exception {
    JsonArray steps = Json.createReader(new StringReader(body)).readArray();
    Resource stored = transaction(connection -> {
      String before = latest(connection, type, id).body;
      String after = Json.createPatch(steps).apply(Json.createReader(new StringReader(before)).readObject()).toString();
      return store(connection, parse(after.getBytes(StandardCharsets.UTF_8), Format.JSON), id);
    });
    return answer(200, stored);
  }

  @DELETE
  @Path("{type}/{id}")
  public Response delete(@PathParam("type") String type, @PathParam("id") String id) throws Exception {
    transaction(connection -> {
      insert(connection, type, id, versions(connection, type, id).size() + 1, null, null);
      return null;
    });
    return Response.noContent().build();
  }

  @GET
  @Path("{type}")
  public Response search(@PathParam("type") String type, @QueryParam("family") String family,
      @QueryParam("_count") @DefaultValue("10") int count, @QueryParam("_offset") @DefaultValue("0") int offset)
      throws Exception {
    List<String> bodies = new ArrayList<>();
    int total = transaction(connection -> {
      String sql = "FROM resources r WHERE type = ? AND body IS NOT NULL AND (CAST(? AS VARCHAR(200)) IS NULL OR family LIKE ?)"
          + " AND version = (SELECT MAX(version) FROM resources WHERE type = r.type AND id = r.id)";
      int number;
      try (PreparedStatement query = connection.prepareStatement("SELECT COUNT(*) " + sql)) {
        number = rows(query, type, family).get(0).number;
      }
      String page = " ORDER BY id OFFSET " + offset + " ROWS FETCH NEXT " + Math.max(1, count) + " ROWS ONLY";
      try (PreparedStatement query = connection.prepareStatement("SELECT version, body " + sql + page)) {
        rows(query, type, family).forEach(row -> bodies.add(row.body));
      }
      return number;
    });
    String next = offset + bodies.size() < total
        ? uri.getRequestUriBuilder().replaceQueryParam("_offset", offset + bodies.size()).build().toString() : null;
    return answer(200, found(BundleType.SEARCHSET, bodies, total, next));
  }

  private static List<Version> rows(PreparedStatement query, String type, String family) throws Exception {
    query.setString(1, type);
    query.setString(2, family);
    query.setString(3, (family == null ? "" : family.toLowerCase()) + "%");
    List<Version> rows = new ArrayList<>();
    try (ResultSet found = query.executeQuery()) {
      boolean bodies = found.getMetaData().getColumnCount() > 1;
      while (found.next()) {
        rows.add(new Version(found.getInt(1), bodies ? found.getString(2) : null));
      }
    }
    return rows;
  }

  private static Bundle found(BundleType type, List<String> bodies, int total, String next) throws Exception {
    Bundle.Builder bundle = Bundle.builder().type(type).total(UnsignedInt.of(total));
    if (next != null) {
      bundle.link(Bundle.Link.builder().relation(com.ibm.fhir.model.type.String.of("next")).url(Uri.of(next)).build());
    }
    for (String body : bodies) {
      Resource resource = FHIRParser.parser(Format.JSON).parse(new StringReader(body));
      Bundle.Entry.Builder entry = Bundle.Entry.builder().resource(resource).fullUrl(Uri.of(location(resource)));
      if (type == BundleType.HISTORY) {
        entry.request(Bundle.Entry.Request.builder().method(com.ibm.fhir.model.type.code.HTTPVerb.PUT)
            .url(Uri.of(location(resource))).build());
        entry.response(Bundle.Entry.Response.builder().status(com.ibm.fhir.model.type.String.of("200")).build());
      }
      bundle.entry(entry.build());
    }
    return bundle.build();
  }

  private static List<Version> versions(Connection connection, String type, String id) throws Exception {
    List<Version> all = new ArrayList<>();
    try (PreparedStatement query = connection.prepareStatement(
        "SELECT version, body FROM resources WHERE type = ? AND id = ? ORDER BY version DESC")) {
      query.setString(1, type);
      query.setString(2, id);
      try (ResultSet rows = query.executeQuery()) {
        while (rows.next()) {
          all.add(new Version(rows.getInt(1), rows.getString(2)));
        }
      }
    }
    return all;
  }

  private static Version latest(Connection connection, String type, String id) throws Exception {
    return versions(connection, type, id).stream().findFirst().orElse(null);
  }

  private static Resource store(Connection connection, Resource given, String id) throws Exception {
    String type = given.getClass().getSimpleName();
    int number = versions(connection, type, id).size() + 1;
    Meta meta = Meta.builder().versionId(Id.of(Integer.toString(number))).lastUpdated(Instant.now(ZoneOffset.UTC)).build();
    Resource stored = given.toBuilder().id(id).meta(meta).build();
    String family = null;
    if (stored instanceof Patient && !((Patient) stored).getName().isEmpty()) {
      HumanName name = ((Patient) stored).getName().get(0);
      family = name.getFamily() == null ? null : name.getFamily().getValue().toLowerCase();
    }
    insert(connection, type, id, number, family, text(stored, Format.JSON));
    return stored;
  }

  private static void insert(Connection connection, String type, String id, int number, String family, String body)
      throws Exception {
    try (PreparedStatement insert = connection.prepareStatement("INSERT INTO resources VALUES (?, ?, ?, ?, ?)")) {
      insert.setString(1, type);
      insert.setString(2, id);
      insert.setInt(3, number);
      insert.setString(4, family);
      insert.setString(5, body);
      insert.executeUpdate();
    }
  }

  private Resource parse(byte[] body, Format format) {
    try {
      Format actual = sent != null && sent.startsWith(XML) ? Format.XML : format;
      return FHIRParser.parser(actual).parse(new ByteArrayInputStream(body));
    } catch (Exception error) {
      return null;
    }
  }

  private static String text(Resource resource, Format format) throws Exception {
    StringWriter out = new StringWriter();
    FHIRGenerator.generator(format).generate(resource, out);
    return out.toString();
  }

  private static String location(Resource resource) {
    String name = resource.getClass().getSimpleName();
    return name + "/" + resource.getId() + "/_history/" + resource.getMeta().getVersionId().getValue();
  }

  private Response version(Version found) throws Exception {
    if (found == null) {
      return Response.status(404).build();
    }
    if (found.body == null) {
      return Response.status(410).build();
    }
    return answer(200, FHIRParser.parser(Format.JSON).parse(new StringReader(found.body)));
  }

  private Response answer(int status, Resource resource) throws Exception {
    boolean xml = accept != null && accept.startsWith(XML);
    Response.ResponseBuilder response = Response.status(status)
        .entity(text(resource, xml ? Format.XML : Format.JSON))
        .type(xml ? XML : "application/fhir+json");
    if (status == 201) {
      response.header("Location", uri.getBaseUri() + location(resource));
    }
    return response.build();
  }

  private Response wrong(String message) throws Exception {
    return answer(400, OperationOutcome.builder().issue(OperationOutcome.Issue.builder().severity(IssueSeverity.ERROR)
        .code(IssueType.INVALID).details(CodeableConcept.builder()
            .text(com.ibm.fhir.model.type.String.of(message)).build()).build()).build());
  }
}
